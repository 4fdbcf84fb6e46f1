"""What changed in a folder that serves as a root file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from minibuild.sandbox import privatetree, treechanges, treepicture

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are devices, which only root may make")


def walked(tree: Path) -> list[treepicture.Seen]:
    return list(treepicture.walk(os.fsencode(tree), str(tree.parent)))


def copy_changes(tree: Path, before: list[treepicture.Seen], upper: Path, *, held: int = 10) -> None:
    picture = treepicture.Picture(before, str(tree.parent), held=held)
    assert list(picture) == list(picture) == before
    upper.mkdir()
    treechanges.copy_changes(os.fsencode(tree), picture, (), os.fsencode(upper), str(tree.parent))


def listing(tree: Path) -> str:
    """Every path with its type, mode, time, target and content."""
    script = "find . -printf '%P %y %m %n %T@ %l\\n' -type f -exec cat {} + | sort"
    return subprocess.run(["sh", "-c", script], cwd=tree, capture_output=True, text=True, check=True).stdout


def test_a_folder_made_again_is_another_though_it_gets_the_same_inode(tmp_path: Path) -> None:
    tree, upper = tmp_path / "tree", tmp_path / "upper"
    for name in ("kept", "again"):
        (tree / name).mkdir(parents=True)
        (tree / name / "old").touch()
    before = dict(walked(tree))
    shutil.rmtree(tree / "again")
    (tree / "again").mkdir()
    (tree / "again/new").touch()
    inode = (tree / "again").stat().st_ino
    before[b"again"] = (inode, *before[b"again"][1:])
    copy_changes(tree, list(before.items()), upper)
    assert os.listdir(upper) == ["again"] and os.listdir(upper / "again") == ["new"]
    assert os.getxattr(upper / "again", "user.overlay.opaque") == b"y"


def test_a_walk_comes_to_what_a_folder_holds_before_its_neighbours(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for path in ("a/b/c", "a-/x", "a.b", "a\x01b", "b"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).touch()
    found = [path for path, _ in walked(tree)]
    assert found == [b"a", b"a/b", b"a/b/c", b"a\x01b", b"a-", b"a-/x", b"a.b", b"b"]
    for one, other in pairwise(found):
        assert treepicture.comes_before(one, other) and not treepicture.comes_before(other, one)


@needs_root
@pytest.mark.parametrize(
    "script",
    [
        "rm -r a; touch a",
        "rm a-; mkdir a-; touch a-/x",
        "rm -r a; mkdir a; ln a.b a/b",
        "rm -r a; mkdir -p a/b; echo 1 > a/b/new",
        "mv a c; mv c/b .; rm 0",
        "mv a/b/c a/b/d; chmod 700 a; touch -d @5 a-; rm z/y/1",
        "rm -r *; mkdir -m 711 z; ln -s x 0",
        "echo more >> a/b/c; rm -r z; mkdir -p z/y/x; chown 5:6 z/y",
        "rm z/y/hard; mv a z/; mv z/y a; rm -r e; mkdir e",
        "ln a.b z/first; ln a.b a/last; mknod n c 1 3; mkfifo z/p",
    ],
)
def test_the_changes_on_top_of_what_was_are_what_is(tmp_path: Path, script: str) -> None:
    was, tree, upper = (tmp_path / name for name in ("was", "tree", "upper"))
    subprocess.run(
        "mkdir -p was/a/b was/z/y was/e; cd was; for f in 0 a- a.b a/b/c a/b/d z/y/1 z/y/2 z/0;"
        " do echo $f > $f; done; ln a.b z/y/hard; ln -s a a/link; touch -d @9 a/b z; cp -a . ../tree",
        shell=True,
        cwd=tmp_path,
        check=True,
    )
    before = walked(tree)
    subprocess.run(script, shell=True, cwd=tree, check=True)
    copy_changes(tree, before, upper, held=3)
    privatetree.apply(os.fsencode(upper), os.fsencode(was))
    assert listing(was) == listing(tree)
