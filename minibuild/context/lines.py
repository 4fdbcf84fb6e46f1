"""The lines of a survey, few held and many kept in a file, and the rows that they stand for.

A line is a path, a zero byte and what `lstat` says of it; what a row has besides is kept beside the few lines
that have it.
"""

from __future__ import annotations

from minibuild.context.rows import Head, Row
from minibuild.layers.entry import Entry, Kind
from minibuild.values import NamedTuple, maker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibuild.layers.spool import Spool

_FILE_KIND = Kind.FILE  # a member read from its class is slow
_BY_LETTER = {kind.value.encode(): kind for kind in Kind}
_HELD = 25_000  # more lines than that are not held: each is some hundred bytes
_entry = maker(Entry)
_row = maker(Row)
NO_DEVICE = (0, 0)

Opening = tuple[bytes, bytes, bool]  # of a match: its name, where it is, whether it is the root
Rest = tuple[bytes, bool, int, int]  # what a row has that no line has: inode, leads, device


class Block(NamedTuple):
    """Some lines, and by number what else belongs to a few of them."""

    lines: list[bytes]
    marks: dict[int, Opening | Rest]


class Blocks:
    """Blocks in the order they come: held, or too many for that in a spool."""

    def __init__(self, scratch: Callable[[], int]) -> None:
        self._scratch = scratch
        self._held: list[Block] = []
        self._lines = 0
        self._spool: Spool | None = None

    def add(self, block: Block) -> None:
        self._held.append(block)
        self._lines += len(block.lines)
        if self._lines > _HELD:
            self._put()

    def _put(self) -> None:
        if self._spool is None:
            from minibuild.layers.spool import Spool

            self._spool = Spool(self._scratch)
        for block in self._held:
            self._spool.put(tuple(block))
        self._held.clear()

    def __iter__(self) -> Iterator[Block]:
        if self._spool is not None:
            for block in self._spool.values(0, self._spool.end):
                yield Block(*block)
        yield from self._held


def rows(blocks: Iterator[Block]) -> Iterator[Head | Row]:
    """What the lines of `blocks` stand for, in that order."""
    where = inside = b""
    modes: dict[bytes, int] = {}
    for lines, marks in blocks:
        for number, line in enumerate(lines):
            mark = marks.get(number) if marks else None
            if mark is not None and len(mark) == 3:
                name, where, whole = mark
                inside = where if where.endswith(b"/") else where + b"/"
                yield Head(name, whole)
                continue
            path, _, text = line.partition(b"\0")
            letter, octal, length, mtime, ctime, _, link = text.split(b" ", 6)
            mode = modes.get(octal)
            if mode is None:
                mode = modes[octal] = int(octal, 8)
            stamp = text[3 + len(octal) : -1 - len(link)]
            place = inside + path if path else where
            inode, leads, device = b"", False, NO_DEVICE
            if mark is not None:
                inode, leads, *numbers = mark
                device = (numbers[0], numbers[1])
            time_ns = int(mtime)
            if letter == b"0":
                changed = int(ctime)
                newest = time_ns if time_ns > changed else changed
                entry = _entry((path, _FILE_KIND, mode, 0, 0, int(length), time_ns, b"", device, ()))
            else:
                newest = 0
                entry = _entry((path, _BY_LETTER[letter], mode, 0, 0, 0, time_ns, link[:-1], device, ()))
            yield _row((entry, place, stamp, inode, leads, newest))
