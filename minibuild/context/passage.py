"""A selection on its way into a layer, entry by entry, so that no more than one path is held at a time.

What comes out is what `Placement.copy` of each match and `finish` make of it, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import cast

from minibuild.context.ordering import Ordering
from minibuild.context.place import Placement
from minibuild.context.placed import Placed
from minibuild.context.rows import Head, Match, Row
from minibuild.layers.entry import Entry, Kind
from minibuild.values import NamedTuple, maker

_BEFORE = Row(Entry(b"", Kind.DIR, 0), b"")


class Step(NamedTuple):
    """What is due with a row, and the row's number among all, from 0."""

    number: int
    row: Row
    due: Sequence[Placed]


_step = maker(Step)


class Passage:
    """The way of matches to `dest`. `placement` is for this copy only.

    Rows come as a view walks them: parents first, siblings bytewise.
    """

    def __init__(self, placement: Placement, dest: str) -> None:
        self._placement = placement
        self._dest = dest
        self._linked: dict[bytes, bytes] = {}
        self._waiting: list[Placed] = []  # folders that are written once something in them is
        self._free: bytes | None = None  # a folder below which nothing was, with its slash

    def one(self, items: Iterable[Head | Row]) -> Iterator[Step]:
        """The only match, its rows in order."""
        rows = iter(items)
        head = next(rows, None)
        if head is None:
            return
        assert isinstance(head, Head)
        root = next(rows)
        assert isinstance(root, Row)
        match = Match(head.name, [root], head.whole)
        target = self._placement.copy(match, self._dest)
        if not match.is_dir:
            yield Step(0, root, list(self._placement.finish()))
            return
        yield Step(0, root, self._begin(target))
        prefix = target + b"/" if target else b""
        place = self._place
        for number, row in enumerate(cast("Iterator[Row]", rows), 1):
            yield _step((number, row, place(row, prefix + row.entry.path)))

    def several(self, items: Iterable[Head | Row], scratch: Callable[[], int]) -> Iterator[Step]:
        """Any number of matches: of rows that come to the same place the last counts."""
        ordering = Ordering(scratch)
        target = self._sort(items, ordering)
        if target is None:
            return
        yield Step(-1, _BEFORE, self._begin(target))
        for path, group in groupby(ordering, itemgetter(0)):
            while self._waiting and not path.startswith(self._waiting[-1].entry.path + b"/"):
                self._waiting.pop()
            free = self._free is not None and path.startswith(self._free)
            known: Entry | None = None
            for _, last, match, row in group:
                placed = self._placement.at(row, path, free=free, match=match, known=known)
                known, number = placed.entry, last
            if not free and placed.entry.kind is Kind.DIR:
                self._note_free(path)
            yield Step(number, row, self._now(placed) if free else self._due(placed))

    def _sort(self, items: Iterable[Head | Row], ordering: Ordering) -> bytes | None:
        """Give all rows their places; what all is at or below, None where there is nothing."""
        target: bytes | None = None
        prefix = b""
        head: Head | None = None
        in_folder = False  # whether the target is known to be a folder
        number, match = -1, 0
        for item in items:
            if isinstance(item, Head):
                head, match = item, match + 1
                continue
            number += 1
            if head is None:
                ordering.add(prefix + item.entry.path, number, match, item)
                continue
            found = Match(head.name, [item], head.whole)
            head = None
            path = prefix + found.name
            if found.is_dir or not in_folder:
                target, path = self._placement.land(found, self._dest)
                in_folder = found.is_dir or path != target
                prefix = target + b"/" if target and in_folder else b""
                if not in_folder:
                    self._placement.set(item, path)
            if not found.is_dir:
                ordering.add(path, number, match, item)
        return target

    def _begin(self, target: bytes) -> list[Placed]:
        """What is due before the first row: the target, where it is a folder, and its parents."""
        if not self._placement.is_folder(target):
            target = target.rpartition(b"/")[0]
        self._note_free(target)
        parts = target.split(b"/") if target else []
        due: list[Placed] = []
        for depth in range(1, len(parts) + 1):
            due += self._due(self._placement.folder(b"/".join(parts[:depth])))
        return due

    def _note_free(self, folder: bytes) -> None:
        if not self._placement.covers(folder):
            self._free = folder + b"/"

    def _place(self, row: Row, path: bytes) -> Sequence[Placed]:
        """What is due with the only row that comes to `path`."""
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
