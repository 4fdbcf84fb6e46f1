"""Work that keeps a processor busy, in turns: about as many pieces of it at once as there are processors.

Whoever is at such work says so with `working`, and has a turn of its process for the length of the block. Who
waits for anything else meanwhile (a lock, a download) does so in `waiting`, without the turn: whoever has one
never waits for somebody who may want one. Several builds in one process share the turns.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreBusy
from minibuild_store.processors import processors
from minibuild_store.stopping import POLL, check

if TYPE_CHECKING:
    from minibuild_store.store import Store


_MOST = 6
_MANY = 32  # that wait: more of them look less often whether they are to stop


class Slots:
    """Lets `count` callers work at once; of those that wait, the one with the most `left` goes first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._came = 0
        self._waiting: list[tuple[int, int, threading.Event]] = []  # a heap
        self._mutex = threading.Lock()

    @contextmanager
    def taken(self, left: int) -> Iterator[None]:
        """A slot inside a ``with`` block; `left` steps come one after the other from here.

        It is waited for; what `stopping.check` raises meanwhile ends the wait.
        """
        turn = threading.Event()
        with self._mutex:
            if self._free:
                self._free -= 1
                turn.set()
            else:
                self._came += 1
                heapq.heappush(self._waiting, (-left, self._came, turn))
        try:
            while not turn.wait(POLL * (1 + len(self._waiting) / _MANY)):
                check()
            check()  # where all that wait are to stop, they do so one after the other, at once
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


def at_once() -> int:
    """As many as there are processors; two where it is one: reading and writing go on beside computing.

    Six at most: each holds some 20 MB, and threads of Python that read and write keep no more than that busy.
    """
    return min(max(2, processors()), _MOST)


class _Process:
    """The turns of this process, and which thread has one."""

    def __init__(self) -> None:
        self._count = at_once()
        self.reset()

    def reset(self) -> None:
        self.slots = Slots(self._count)
        self.mine = _Mine()


class _Mine(threading.local):
    turn: ExitStack | None = None
    left = 0


_process = _Process()
os.register_at_fork(after_in_child=_process.reset)  # no thread of the parent's is there to give one back


@contextmanager
def working(left: int = 0) -> Iterator[None]:
    """A turn inside a ``with`` block, waited for as in `Slots.taken`; whoever has one already keeps that."""
    mine = _process.mine
    if mine.turn is not None:
        yield
        return
    with ExitStack() as turn:
        turn.enter_context(_process.slots.taken(left))
        mine.turn, mine.left = turn, left
        try:
            yield
        finally:
            mine.turn = None


@contextmanager
def waiting() -> Iterator[None]:
    """For what is waited for: others have this thread's turn until the ``with`` block is left.

    An error that leaves the block does not wait for another turn.
    """
    mine = _process.mine
    turn, left = mine.turn, mine.left
    if turn is None:
        yield
        return
    mine.turn = None
    turn.close()
    yield
    turn.enter_context(_process.slots.taken(left))
    mine.turn, mine.left = turn, left


@contextmanager
def alone(store: Store, name: str) -> Iterator[None]:
    """The store's lock on `name`, waited for without a turn: whoever holds it may want one."""
    with ExitStack() as held:
        try:
            held.enter_context(store.lock(name, timeout=0))
        except StoreBusy:
            with waiting():
                held.enter_context(store.lock(name))
        yield
