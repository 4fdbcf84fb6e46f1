"""What a COPY selects from a view that never changes: found once, gone through often, with few rows held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from minibuild.context.rows import Head, Row, View
from minibuild.context.select import selected, single
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.spool import Spool
from minibuild.values import maker

_AT_ONCE = 500  # items that are written and read together
_HELD = 5_000  # more items than that are not held: a row is over a kilobyte

_KINDS = {kind.value: kind for kind in Kind}
_entry = maker(Entry)
_row = maker(Row)


class Selected(Protocol):
    """What a pattern selected: heads, each followed by its rows, as often as they are asked for."""

    @property
    def one(self) -> bool:
        """Whether it is one match at most, its rows in the order of a layer."""

    def __iter__(self) -> Iterator[Head | Row]: ...


class Selection:
    """The paths of `view` that `pattern` selects (see `select`).

    `scratch` gives an empty file's descriptor; without one all rows are held. Nothing is looked for before
    something is asked. Raises as `select` does.
    """

    def __init__(
        self,
        view: Callable[[], View],
        pattern: str,
        *,
        exclude: tuple[str, ...] = (),
        parents: bool = False,
        scratch: Callable[[], int] | None = None,
    ) -> None:
        self._view = view
        self._pattern = pattern
        self._exclude = exclude
        self._parents = parents
        self._spool = None if scratch is None else Spool(scratch)
        self._held: list[Head | Row] = []
        self._found = False
        self._ordered = True  # whether rows come parents first, siblings bytewise

    @property
    def one(self) -> bool:
        if not single(self._pattern, parents=self._parents):
            return False
        self._find()
        return self._ordered

    def __iter__(self) -> Iterator[Head | Row]:
        self._find()
        if self._spool is not None:
            for some in self._spool.values(0, self._spool.end):
                for plain in some:
                    yield Head(*plain) if len(plain) == 2 else row_of(plain)
        yield from self._held

    def _find(self) -> None:
        if self._found:
            return
        items = selected(self._view(), self._pattern, exclude=self._exclude, parents=self._parents)
        last = b""
        while some := list(islice(items, _AT_ONCE)):
            for item in some:
                if isinstance(item, Row):
                    place = item.entry.path.replace(b"/", b"\0")
                    self._ordered = self._ordered and (place > last or not place)
                    last = place
                    self._note(item)
            self._held += some
            if self._spool is not None and len(self._held) > _HELD:
                self._put(self._spool)
        self._found = True

    def _note(self, row: Row) -> None:
        """Hear of a row the first time."""

    def _put(self, spool: Spool) -> None:
        items = iter(self._held)
        while some := list(islice(items, _AT_ONCE)):
            spool.put([plain_row(item) if isinstance(item, Row) else tuple(item) for item in some])
        self._held.clear()


def plain_row(row: Row) -> tuple[object, ...]:
    """`row` with nothing in it but what `marshal` takes."""
    (path, kind, *entry), *rest = row
    return (path, kind.value, *entry), *rest


def row_of(plain: tuple[Iterable[object], ...]) -> Row:
    """The row that `plain_row` was given."""
    entry, *rest = plain
    path, kind, *others = entry
    return _row((_entry((path, _KINDS[kind], *others)), *rest))  # type: ignore[index]
