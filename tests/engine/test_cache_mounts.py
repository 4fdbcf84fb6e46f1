"""Taking cache mounts while others come and go."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from minibuild_store.store import Store

from minibuild.engine.cachemounts import CacheMounts, lock_of
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.session import Session
from minibuild.plan.steps import CacheMount, FromStage


def test_a_folder_that_is_deleted_while_it_is_waited_for_is_begun_again(tmp_path: Path) -> None:
    mount = CacheMount("/c", id="one", source=FromStage(0))
    sandbox = SimpleNamespace(
        form=SimpleNamespace(suffix=""), lends_folders=False, remove=shutil.rmtree
    )  # nothing is unpacked or run
    with Store.open(tmp_path / "store") as store, ExitStack() as theirs, ExitStack() as ours:
        session = SimpleNamespace(store=store, sandbox=lambda: sandbox, shared=None, check=lambda: None)
        mounts = CacheMounts(cast(Session, session), ours)
        with ExitStack() as once:
            folder = CacheMounts(cast(Session, session), once).take([mount], {0: Filesystem()})[0].source
        (folder / "file").touch()
        theirs.enter_context(store.lock(lock_of(folder)))

        def delete() -> None:
            if folder.exists():
                shutil.rmtree(folder)
                theirs.close()

        session.check = delete
        assert mounts.take([mount], {0: Filesystem()})[0].source == folder
        assert folder.is_dir()
