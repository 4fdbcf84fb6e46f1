"""Folders that RUNs work in: what is left of one serves the next, which saves making and removing it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from minibuild_store.snapshots import Snapshots

from minibuild.layers.form import RECORDED


class Workrooms:
    """Thread-safe; a room is one step's at a time. Close it when no step runs any more."""

    def __init__(self, snapshots: Snapshots, remove: Callable[[Path], None]) -> None:
        self._snapshots = snapshots
        self._remove = remove
        self._idle: list[tuple[Path, ExitStack]] = []
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Path]:
        """A folder without ``upper``; there may be a folder ``work`` that an overlay has used before."""
        with self._mutex:
            known = self._idle.pop() if self._idle else None
        with ExitStack() as stack:
            if known is None:
                path = stack.enter_context(self._snapshots.workspace(remove=self._remove))
            else:
                path, before = known
                stack.push(before)
            yield path
            if _fit(path):
                with self._mutex:
                    self._idle.append((path, stack.pop_all()))

    def close(self) -> None:
        """Remove all rooms."""
        while self._idle:
            self._idle.pop()[1].close()


def _fit(room: Path) -> bool:
    """Whether nothing is in the room that the next step must not find."""
    for name in ("upper", "nothing"):  # of which one has become a snapshot, if it is the first of its kind
        for folder in (room / name / RECORDED.inner, room / name):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return False
    return os.listdir(room) == ["work"] and os.listdir(room / "work") in ([], ["work"])
