"""The entries of a layer that is being put together, by path: few are held, many are kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

from minibuild.context.placed import Placed
from minibuild.context.rows import Row
from minibuild.context.selection import plain_row, row_of
from minibuild.layers.entry import Kind
from minibuild.layers.spool import Spool

_HELD = 5_000  # entries, each over a kilobyte
_AT_ONCE = 200  # that are written together
_OTHER, _FOLDER, _LINK = range(3)
_BITS = 2  # that say which of them


class Shelf:
    """`scratch` gives an empty file's descriptor; without one all entries are held.

    Of those in the file 150 bytes are held: a path, where its entry is, and what kind it is of.
    """

    def __init__(self, scratch: Callable[[], int] | None) -> None:
        self._spool = None if scratch is None else Spool(scratch)
        self._held: dict[bytes, Placed] = {}
        self._kept: dict[bytes, int] = {}
        # what was ever in each folder, once something was removed with all below it
        self._children: dict[bytes, set[bytes]] | None = None

    def __contains__(self, path: bytes) -> bool:
        return path in self._held or path in self._kept

    def __iter__(self) -> Iterator[bytes]:
        """All paths, in no order."""
        return chain(self._held, (path for path in self._kept if path not in self._held))

    def get(self, path: bytes) -> Placed | None:
        placed = self._held.get(path)
        if placed is None and self._kept and (place := self._kept.get(path)) is not None:
            assert self._spool is not None
            placed = _placed(self._spool.value(place >> _BITS))
        return placed

    def kind(self, path: bytes) -> Kind | None:
        """Folder, symbolic link, or a file for whatever else it is; None where nothing is."""
        placed = self._held.get(path)
        if placed is not None:
            return placed.entry.kind
        place = self._kept.get(path) if self._kept else None
        return None if place is None else (Kind.FILE, Kind.DIR, Kind.SYMLINK)[place & (1 << _BITS) - 1]

    def put(self, path: bytes, placed: Placed) -> None:
        self._held[path] = placed
        if self._children is not None:
            self._lead(path)
        if len(self._held) > _HELD and self._spool is not None:
            self._keep(self._spool)

    def remove(self, path: bytes) -> None:
        """Take away what is at `path`, where something is."""
        self._held.pop(path, None)
        self._kept.pop(path, None)

    def remove_below(self, path: bytes) -> None:
        """Take away all below the folder `path`; parents need not be there."""
        if self._children is None:
            self._children = {}
            for known in self:
                self._lead(known)
        doomed = list(self._children.pop(path, ()))
        for below in doomed:  # grows
            doomed += self._children.pop(below, ())
            self._held.pop(below, None)
            self._kept.pop(below, None)

    def _lead(self, path: bytes) -> None:
        """Have `path` found from the root down."""
        assert self._children is not None
        while path:
            parent = path.rpartition(b"/")[0]
            siblings = self._children.setdefault(parent, set())
            if path in siblings:
                return
            siblings.add(path)
            path = parent

    def _keep(self, spool: Spool) -> None:
        held = iter(self._held.items())
        while some := list(islice(held, _AT_ONCE)):
            places = spool.put_all(_plain(placed) for _, placed in some)
            for (path, placed), place in zip(some, places, strict=True):
                kind = placed.entry.kind
                which = _FOLDER if kind is Kind.DIR else _LINK if kind is Kind.SYMLINK else _OTHER
                self._kept[path] = place << _BITS | which
        self._held.clear()


def _plain(placed: Placed) -> tuple[object, ...]:
    """With nothing in it but what `marshal` takes."""
    entry, where, data, inode, stamp, spooled = placed
    return plain_row(Row(entry, where, stamp, inode)), data, spooled


def _placed(plain: tuple[tuple[object, ...], int | None, bool]) -> Placed:
    row, data, spooled = plain
    entry, where, stamp, inode, _, _ = row_of(row)  # type: ignore[arg-type]
    return Placed(entry, where, data, inode, stamp, spooled)
