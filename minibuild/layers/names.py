"""The names in a folder, sorted by their bytes, however many: in pieces, which a file holds until merged."""

from __future__ import annotations

import os
from itertools import islice, pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import IO, Final

PIECE: Final = 25_000
"""Names that are held at once; about 2 MB."""
_BLOCKS: Final = 1 << 20  # read ahead of all pieces together


def listed(fd: int, room: Path | str, *, piece: int = PIECE) -> Iterator[bytes]:
    """The names in the folder that `fd` is open on, sorted; it is read before the first one is given.

    Where there are more than `piece` they pass through a file without a name in the folder `room`.
    """
    with os.scandir(fd) as entries:
        return in_order(map(os.fsencode, (entry.name for entry in entries)), room, piece=piece)


def in_order(
    names: Iterable[bytes], room: Path | str | Callable[[], int], *, piece: int = PIECE
) -> Iterator[bytes]:
    """`names`, none of which holds a NUL, sorted; as `listed` has it.

    `room` may also be what gives the descriptor of an empty file.
    """
    rest = iter(names)
    first = sorted(islice(rest, piece))
    if len(first) < piece or not (second := sorted(islice(rest, piece))):
        return iter(first)
    file = _empty_file(room)
    ends = [0, _spilled(file, first), _spilled(file, second)]
    del first
    while second := sorted(islice(rest, piece)):
        ends.append(_spilled(file, second))
    return _merged(file, ends)


def _empty_file(room: Path | str | Callable[[], int]) -> IO[bytes]:
    if callable(room):
        return os.fdopen(room(), "w+b")
    import tempfile

    return tempfile.TemporaryFile(dir=room)


def _spilled(file: IO[bytes], names: list[bytes]) -> int:
    """Write the names, a NUL behind each; where they end."""
    file.write(b"\0".join(names) + b"\0")
    return file.tell()


def _merged(file: IO[bytes], ends: list[int]) -> Iterator[bytes]:
    import heapq

    with file:
        file.flush()
        block = max(_BLOCKS // len(ends), 1 << 12)
        yield from heapq.merge(*(_read(file.fileno(), *span, block) for span in pairwise(ends)))


def _read(fd: int, start: int, end: int, size: int) -> Iterator[bytes]:
    left = b""
    while start < end:
        block = os.pread(fd, min(size, end - start), start)
        start += len(block)
        *names, left = (left + block).split(b"\0")
        yield from names
