"""What changed in a folder that serves as a root file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from minibuild.sandbox import treechanges


def test_a_folder_made_again_is_another_though_it_gets_the_same_inode(tmp_path: Path) -> None:
    tree, upper = tmp_path / "tree", tmp_path / "upper"
    upper.mkdir()
    for name in ("kept", "again"):
        (tree / name).mkdir(parents=True)
        (tree / name / "old").touch()
    before = treechanges.scan(os.fsencode(tree))
    shutil.rmtree(tree / "again")
    (tree / "again").mkdir()
    (tree / "again/new").touch()
    after = treechanges.scan(os.fsencode(tree))
    after[b"again"] = (before[b"again"][0], *after[b"again"][1:])
    changes = treechanges.Changes(os.fsencode(tree), before, after, ())
    changes.copy_to(os.fsencode(upper))
    assert os.listdir(upper) == ["again"] and os.listdir(upper / "again") == ["new"]
    assert os.getxattr(upper / "again", "user.overlay.opaque") == b"y"
