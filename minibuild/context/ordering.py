"""Rows put into the order of a layer by the paths they come to; many of them are sorted in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from minibuild.context.rows import Row
from minibuild.context.selection import plain_row, row_of
from minibuild.layers.spool import Spool

_HELD = 10_000  # rows, each over a kilobyte
_AT_ONCE = 100  # rows that are written and read together

_Place = tuple[bytes, int, int, Row]  # path, the row's number, that of its match, the row
_Keyed = tuple[bytes, int, bytes, int, Row]


class Ordering:
    """Takes rows in any order; `scratch` gives an empty file's descriptor."""

    def __init__(self, scratch: Callable[[], int]) -> None:
        self._held: list[_Keyed] = []
        self._spool = Spool(scratch)
        self._runs: list[tuple[int, int]] = []  # begin and end in the spool, of what is sorted in itself

    def add(self, path: bytes, number: int, match: int, row: Row) -> None:
        """A row that comes to `path`; numbers rise."""
        self._held.append((path.replace(b"/", b"\0"), number, path, match, row))
        if len(self._held) >= _HELD:
            self._put()

    def __iter__(self) -> Iterator[_Place]:
        """Parents first, siblings bytewise; rows of one path by their numbers."""
        self._held.sort()
        runs = [self._run(*run) for run in self._runs]
        for _, number, path, match, row in merge(*runs, self._held) if runs else self._held:
            yield path, number, match, row

    def _put(self) -> None:
        self._held.sort()
        begin = self._spool.end
        rows = iter(self._held)
        while some := [_plain(*keyed) for keyed in islice(rows, _AT_ONCE)]:
            self._spool.put(some)
        self._runs.append((begin, self._spool.end))
        self._held.clear()

    def _run(self, begin: int, end: int) -> Iterator[_Keyed]:
        for some in self._spool.values(begin, end):
            for key, number, path, match, row in some:
                yield key, number, path, match, row_of(row)


def _plain(key: bytes, number: int, path: bytes, match: int, row: Row) -> tuple[object, ...]:
    """With nothing in it but what `marshal` takes."""
    return key, number, path, match, plain_row(row)
