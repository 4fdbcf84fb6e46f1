"""Which steps may work, `--jobs` at a time: of those that wait, what most others come after goes first."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from minibuild.engine.stagerows import stage_sources
from minibuild.plan.steps import FromStage, Plan


class Slots:
    """Lets `count` callers work at once; of those that wait, the one with the most `left` goes first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._came = 0
        self._waiting: list[tuple[int, int, threading.Event]] = []  # a heap
        self._mutex = threading.Lock()

    @contextmanager
    def taken(self, left: int) -> Iterator[None]:
        """A slot inside a ``with`` block, waited for; `left` steps come one after the other from here."""
        turn = threading.Event()
        with self._mutex:
            if self._free:
                self._free -= 1
                turn.set()
            else:
                self._came += 1
                heapq.heappush(self._waiting, (-left, self._came, turn))
        try:
            turn.wait()
            yield
        finally:
            self._give_back(turn)

    def _give_back(self, turn: threading.Event) -> None:
        with self._mutex:
            if not turn.is_set():  # interrupted while it waited
                self._waiting = [one for one in self._waiting if one[2] is not turn]
                heapq.heapify(self._waiting)
            elif self._waiting:
                heapq.heappop(self._waiting)[2].set()
            else:
                self._free += 1


def steps_after(plan: Plan) -> Mapping[int, int]:
    """By stage, how many steps of later stages come one after the other once its last step is done."""
    after = {stage.index: 0 for stage in plan.stages}
    for stage in reversed(plan.stages):  # each comes behind those it needs
        count = len(stage.steps)
        if isinstance(stage.base, FromStage):
            after[stage.base.index] = max(after[stage.base.index], count + after[stage.index])
        for number, step in enumerate(stage.steps):
            for source in stage_sources(step):
                left = count - number + after[stage.index]
                after[source.index] = max(after[source.index], left)
    return after
