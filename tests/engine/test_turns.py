"""Builds compute in turns, as many pieces at once as there are processors, and wait without one."""

from __future__ import annotations

import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from minibuild_store import turns
from minibuild_store.store import Store

import minibuild
from minibuild.engine import writing
from minibuild.engine.request import BuildResult
from minibuild.engine.session import Session
from minibuild.errors import Cancelled
from minibuild.layers.writer import LayerWriter

LIMIT = 20  # seconds, for what takes none
STAGES = 12
LINES = [
    *(
        line
        for number in range(STAGES)
        for line in (f"FROM scratch AS s{number}", f"COPY f{number} /x{number}")
    ),
    "FROM scratch",
    *(f"COPY --from=s{number} /x{number} /" for number in range(STAGES)),
]


class Recorded(turns.Slots):
    """Turns that know how many were taken at once, and by whom in which order."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.now = self.most = 0
        self.order: list[int] = []

    @contextmanager
    def taken(self, left: int) -> Iterator[None]:
        with super().taken(left):
            with self._mutex:
                self.order.append(left)
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                yield
            finally:
                with self._mutex:
                    self.now -= 1


Give = Callable[[int], Recorded]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Have so many turns in place of one for each processor."""

    def given(count: int) -> Recorded:
        slots = Recorded(count)
        monkeypatch.setattr(turns._process, "slots", slots)
        return slots

    return given


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    for number in range(STAGES):
        (folder / f"f{number}").write_bytes(os.urandom(300_000) + bytes(3 << 20))
    (folder / "Dockerfile").write_text("\n".join(LINES))
    with tarfile.open(folder / "archive.tar", "w") as archive:
        archive.add(folder / "f0", "a/f0")
    return folder


def built(context: Path, folder: Path, cancel: threading.Event | None = None) -> BuildResult:
    with Store.open(folder) as store:
        return minibuild.build(minibuild.BuildRequest(context=context), store=store, cancel=cancel)


class Begun:
    """A build on a thread of its own."""

    def __init__(self, context: Path, folder: Path) -> None:
        self.cancel = threading.Event()
        self.found: list[BuildResult | BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(context, folder), daemon=True)
        self._thread.start()

    def _run(self, context: Path, folder: Path) -> None:
        try:
            self.found.append(built(context, folder, self.cancel))
        except BaseException as error:
            self.found.append(error)

    def ended(self) -> BuildResult | BaseException:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return self.found[0]


def test_as_many_layers_are_written_at_once_as_there_are_turns(
    context: Path, tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = give(3)
    mutex, now, most = threading.Lock(), 0, 0
    meeting = threading.Barrier(3)

    class Counted(LayerWriter):
        def __enter__(self) -> LayerWriter:
            nonlocal now, most
            with mutex:
                now += 1
                most = max(most, now)
            with suppress(threading.BrokenBarrierError):
                meeting.wait(LIMIT)  # the first three meet
            meeting.abort()
            return super().__enter__()

        def __exit__(self, *error: object) -> None:
            nonlocal now
            with mutex:
                now -= 1
            super().__exit__(*error)  # type: ignore[arg-type]

    monkeypatch.setattr("minibuild.layers.writer.LayerWriter", Counted)
    result = Begun(context, tmp_path / "store").ended()
    assert isinstance(result, BuildResult)
    assert len(result.config.diff_ids) == STAGES
    assert (most, slots.most) == (3, 3)
    assert slots.now == 0


def test_builds_of_one_process_share_the_turns(context: Path, tmp_path: Path, give: Give) -> None:
    slots = give(2)
    builds = [Begun(context, tmp_path / f"store{number % 2}") for number in range(4)]
    images = {result.config.diff_ids for one in builds if isinstance(result := one.ended(), BuildResult)}
    assert len(images) == 1
    assert slots.most <= 2


def test_the_longest_chain_has_the_next_turn(
    context: Path, tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["FROM scratch AS short", "COPY f0 /", "FROM scratch AS alone", "COPY f1 /"]
    lines += ["FROM scratch AS long", *(f"COPY f{number} /l/" for number in range(2, 7))]
    (context / "Dockerfile").write_text(
        "\n".join([*lines, "FROM long", "COPY --from=short / /", "COPY --from=alone / /"])
    )
    slots = give(1)
    with turns.working():
        build = Begun(context, tmp_path / "store")
        until(lambda: len(slots._waiting) == 3)
    assert isinstance(build.ended(), BuildResult)
    assert slots.order[1] == 7  # five of its own and two of the last stage


VARIED = """\
FROM scratch AS base
COPY f0 f1 /base/
COPY --link f2 /base/
COPY --link f3 /base/
ADD archive.tar /base/
FROM base AS left
COPY f4 /left/
COPY f5 /left/
COPY <<END /left/text
text
END
WORKDIR /left/work
FROM base AS right
COPY f4 /left/
COPY --from=left /left /right
COPY . /right/all/
FROM scratch
COPY --from=right / /
COPY --link --from=left /left /linked
ADD --unpack archive.tar /
COPY f? /
"""


def test_a_single_turn_is_enough_for_whatever_a_build_computes(
    context: Path, tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_LITTLE", 0)  # COPYs that follow one another are begun as soon as can be
    (context / "Dockerfile").write_text(VARIED)
    images = set()
    for number, count in enumerate((1, 2, 8)):
        slots = give(count)
        results = [Begun(context, tmp_path / f"store{number}") for _ in range(2)]
        images |= {found.config.diff_ids for one in results if isinstance(found := one.ended(), BuildResult)}
        assert [one.found for one in results if isinstance(one.found[0], BaseException)] == []
        assert slots.now == 0
        assert slots.most <= count
    assert len(images) == 1


def test_a_build_that_waits_for_its_turn_can_be_cancelled(context: Path, tmp_path: Path, give: Give) -> None:
    slots = give(1)
    with turns.working():
        build = Begun(context, tmp_path / "store")
        until(lambda: len(slots._waiting) >= STAGES)
        build.cancel.set()
        assert isinstance(build.ended(), Cancelled)
        assert not slots._waiting


def test_what_helpers_of_a_step_wait_for_together_is_not_taken_off_its_time(
    context: Path, tmp_path: Path, give: Give
) -> None:
    slots = give(1)
    helpers = 3

    def computes(session: Session) -> None:
        with session.working():
            pass

    with (
        Store.open(tmp_path / "store") as store,
        Session(store, minibuild.BuildRequest(context=context), lambda event: None) as session,
        session.step("one step, many threads") as running,
    ):
        with turns.working():
            works = [session.as_step(partial(computes, session)) for _ in range(helpers)]
            threads = [threading.Thread(target=work, daemon=True) for work in works]
            for thread in threads:
                thread.start()
            until(lambda: len(slots._waiting) == helpers)
            begun = time.monotonic()
            until(lambda: time.monotonic() > begun + 0.01)
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert running.seconds > 0.01


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
