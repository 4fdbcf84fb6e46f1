"""Who gets the folders of cache mounts, and when."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.lock import Lock
from minibuild_store.store import Store

from minibuild.engine.cachemounts import CacheMounts
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.events import silent
from minibuild.plan.steps import CacheMount


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
