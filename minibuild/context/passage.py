"""A folder that is copied entry by entry, so that no more than one path of it is held at a time.

What comes out is what `Placement.copy` and `finish` make of the same folder, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minibuild.context.place import Placed, Placement
from minibuild.context.rows import Match, Row
from minibuild.layers.entry import Kind


class Passage:
    """The way of one folder to `dest`; `root` is its match with the folder's own row alone.

    `placement` is for this copy only. Rows come as a view walks them: parents first, siblings bytewise.
    """

    def __init__(self, placement: Placement, root: Match, dest: str) -> None:
        self._placement = placement
        self._linked: dict[bytes, bytes] = {}
        self._waiting: list[Placed] = []  # folders that are written once something in them is
        target = placement.copy(root, dest)
        self._prefix = target + b"/" if target else b""
        self._free: bytes | None = None  # a folder below which nothing was, with its slash
        self._note_free(target)
        self._begin = list(self._way(target))

    def _way(self, target: bytes) -> Iterator[Placed]:
        """The target and its parents, as far as they are due."""
        parts = target.split(b"/") if target else []
        for depth in range(1, len(parts) + 1):
            yield from self._due(self._placement.folder(b"/".join(parts[:depth])))

    def _note_free(self, folder: bytes) -> None:
        if not self._placement.covers(folder):
            self._free = folder + b"/"

    def begin(self) -> list[Placed]:
        """What is due before the first row."""
        return self._begin

    def place(self, row: Row) -> Sequence[Placed]:
        """What is due with a row below the folder."""
        path = self._prefix + row.entry.path
        waiting = self._waiting
        while waiting and not path.startswith(waiting[-1].entry.path + b"/"):
            waiting.pop()
        if self._free is not None and path.startswith(self._free):
            placed = self._placement.at(row, path, free=True)
            return self._now(placed) if waiting or placed.inode else (placed,)
        if row.entry.kind is Kind.DIR:
            self._note_free(path)
        return self._due(self._placement.at(row, path))

    def _due(self, placed: Placed) -> Sequence[Placed]:
        if self._placement.untouched(placed.entry):
            self._waiting.append(placed)
            return ()
        return self._now(placed)

    def _now(self, placed: Placed) -> Sequence[Placed]:
        """`placed` behind the folders that waited for it."""
        if placed.inode:
            first = self._linked.setdefault(placed.inode, placed.entry.path)
            if first != placed.entry.path:
                placed = Placed(placed.entry._replace(kind=Kind.HARDLINK, link=first, size=0))
        due = (*self._waiting, placed)
        self._waiting.clear()
        return due
