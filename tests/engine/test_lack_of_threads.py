"""A build that may not have another thread: one error with its cure, and none of its threads is left."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from minibuild_store.store import Store

import minibuild
from minibuild.errors import SandboxError
from minibuild.registry.parallel import run_all

LIMIT = 30.0
LARGE = 3 << 20
DOCKERFILE = """\
FROM scratch AS first
COPY large other /
FROM scratch AS second
COPY small /
COPY --link small /linked
COPY --link other /linked/too
FROM scratch
COPY --from=first / /
COPY --from=second / /
COPY large /last
"""


class Lack:
    """Threads of this process, of which only so many can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 30
        self.asked = 0
        self._start = threading.Thread.start
        self._before = set(threading.enumerate())
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self._started(thread))

    def _started(self, thread: threading.Thread) -> None:
        self.asked += 1
        if self.asked > self.left:
            raise RuntimeError("can't start new thread")
        self._start(thread)

    def after(self, left: int) -> None:
        self.left, self.asked = left, 0

    def nothing_runs(self) -> bool:
        """Whether all that was started has ended, soon."""
        for thread in set(threading.enumerate()) - self._before:
            thread.join(LIMIT)
        return not set(threading.enumerate()) - self._before


@pytest.fixture
def lack(monkeypatch: pytest.MonkeyPatch) -> Lack:
    return Lack(monkeypatch)


def test_a_build_without_another_thread_says_so_whichever_it_is(tmp_path: Path, lack: Lack) -> None:
    context = tmp_path / "context"
    context.mkdir()
    source = random.Random(5)
    for name in ("large", "other"):
        (context / name).write_bytes(source.randbytes(LARGE))
    (context / "small").write_text("small")
    (context / "Dockerfile").write_text(DOCKERFILE)
    request = minibuild.BuildRequest(context=context)
    asked, failed = 0, 0
    while True:
        lack.after(asked)
        with Store.open(tmp_path / f"store{asked}") as store:
            try:
                minibuild.build(request, store=store)
            except SandboxError as error:
                failed += 1
                assert error.message == "another thread was needed: can't start new thread"
                assert "ulimit -u" in error.cure
            assert lack.nothing_runs(), threading.enumerate()
        if lack.asked <= asked:
            break
        asked += 1
    assert failed == asked > 5


def test_transfers_that_were_begun_are_stopped_and_waited_for(lack: Lack) -> None:
    begun, ended = threading.Event(), []

    def job(stop: threading.Event) -> None:
        begun.set()
        ended.append(stop.wait(LIMIT))

    lack.after(1)
    with pytest.raises(SandboxError, match="another thread"):
        run_all([job, job, job], 3)
    assert lack.nothing_runs()
    assert ended == [True] * begun.is_set()
