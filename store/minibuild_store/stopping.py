"""How long work is told to stop: where bytes flow, `check` is called once a block.

Whoever begins the work says what `check` does, for this thread; a thread that it starts is handed the same
with `carried`. Nobody having said anything, `check` does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Check = Callable[[], None]
"""Returns at once, or raises what is to end the work."""

POLL = 0.05
"""Seconds between two checks of what waits for something."""


def _go_on() -> None:
    pass


class _Current(threading.local):
    check: Check = staticmethod(_go_on)


_current = _Current()


def check() -> None:
    """Raise what ends the work of this thread, once it is to end."""
    _current.check()


def current() -> Check:
    """What `check` calls in this thread."""
    return _current.check


@contextmanager
def checking(by: Check) -> Iterator[None]:
    """Have `check` call `by` in this thread for the length of the block."""
    before = _current.check
    _current.check = by
    try:
        yield
    finally:
        _current.check = before


def checking_also(by: Check) -> AbstractContextManager[None]:
    """Have `check` call `by` first in this thread, then what it calls already."""
    outer = _current.check

    def both() -> None:
        by()
        outer()

    return checking(both)


def carried(work: Callable[[], None]) -> Callable[[], None]:
    """`work` for another thread, under this one's check."""
    by = _current.check

    def run() -> None:
        with checking(by):
            work()

    return run


def pause(seconds: float) -> None:
    """Sleep, with an eye on `check`."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, POLL))
