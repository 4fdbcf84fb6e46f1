"""Who gets the folders of cache mounts, and when."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.lock import Lock
from minibuild_store.store import Store

from minibuild.engine.cachemounts import CacheMounts
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.events import silent
from minibuild.plan.steps import CacheMount, FromStage


class Noting(Store):
    """A store that notes which locks are asked for."""

    asked: list[str]

    def lock(self, name: str, **options: Any) -> Lock:
        self.asked.append(name)
        return super().lock(name, **options)


@pytest.mark.parametrize("sharing", ["shared", "locked"])
def test_steps_take_their_folders_in_one_order(tmp_path: Path, sharing: str) -> None:
    mounts = [CacheMount(f"/{name}", name, sharing) for name in ("one", "two", "three")]
    orders = []
    with Noting.open(tmp_path) as store:
        assert isinstance(store, Noting)
        with Session(store, BuildRequest(context=None), silent) as session:
            for wanted in (mounts, mounts[::-1]):
                store.asked = []
                with ExitStack() as stack:
                    found = CacheMounts(session, stack).take(wanted, {})
                assert [found[number].target for number in range(3)] == [mount.target for mount in wanted]
                orders.append([name for name in store.asked if name.startswith("cache ")])
    assert orders[0] == orders[1]


class Losing(Store):
    """A store that loses a folder just before it is shared, once."""

    lost = False

    def lock(self, name: str, *, shared: bool = False, **options: Any) -> Lock:
        if shared and not self.lost:
            self.lost = True
            shutil.rmtree(name.removeprefix("cache "))
        return super().lock(name, shared=shared, **options)


def test_a_folder_that_is_deleted_before_it_is_had_is_begun_again(tmp_path: Path) -> None:
    mount = CacheMount("/c", "one", source=FromStage(0))
    with (
        Losing.open(tmp_path) as store,
        Session(store, BuildRequest(context=None), silent) as session,
        ExitStack() as stack,
    ):
        found = CacheMounts(session, stack).take([mount], {0: Filesystem()})
        assert isinstance(store, Losing) and store.lost
        assert found[0].source.is_dir()
