"""The bytes under a tar reader: a source cut into blocks, and the content of the current member."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minibuild.errors import LayerError
from minibuild.layers.compress import CHUNK, Reader
from minibuild.layers.tarformat import BLOCK, Extents

META_MAX = 1 << 20  # of an extended header or a GNU long name, as in Go's archive/tar
_ZEROS = bytes(1 << 16)


class Blocks:
    """A window on `source`, and what is left in it of the current member. For `TarReader` to build on."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._buffer = b""
        self._at = 0
        self._end = 0
        self._left = 0  # of the current member's stored bytes
        self._padding = 0
        self._extents: Extents | None = None  # of a sparse member
        self._size = 0  # of the current member's content, holes included

    def _fill(self, count: int) -> bool:
        """Have `count` bytes in one piece at `_at`; False when the stream ends before."""
        while self._end - self._at < count:
            piece = self._source.read(CHUNK)
            if not piece:
                return False
            self._buffer = self._buffer[self._at :] + piece if self._at < self._end else piece
            self._at, self._end = 0, self._end - self._at + len(piece)
        return True

    def _skip(self, count: int) -> None:
        while count > self._end - self._at:
            count -= self._end - self._at
            self._at = self._end
            if not self._fill(1):
                raise truncated()
        self._at += count

    def _piece(self) -> memoryview:
        """The next bytes of the current member, however many are at hand (at least one)."""
        if self._at == self._end and not self._fill(1):
            raise truncated()
        stop = min(self._end, self._at + self._left)
        piece = memoryview(self._buffer)[self._at : stop]
        self._left -= stop - self._at
        self._at = stop
        return piece

    def _take(self, size: int) -> bytes:
        """The payload of an extended header."""
        if size > META_MAX:
            raise LayerError(f"the archive has an extended header of {size} bytes; {META_MAX} is the limit")
        padded = size + -size % BLOCK
        if not self._fill(padded):
            raise truncated()
        data = self._buffer[self._at : self._at + size]
        self._at += padded
        return data


class Body:
    """The content of the current member. Pieces are views that the next step invalidates."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Blocks) -> None:
        self._reader = reader

    @property
    def sparse(self) -> bool:
        """Whether `segments` leaves holes."""
        return self._reader._extents is not None

    @property
    def size(self) -> int:
        """Of the content, holes included."""
        return self._reader._size

    def segments(self) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) of what is stored, in order; the gaps up to the entry's size are zeros."""
        reader = self._reader
        if reader._extents is None:
            at = 0
            while reader._left:
                piece = reader._piece()
                yield at, piece
                at += len(piece)
            return
        for offset, length in reader._extents:
            rest = length
            while rest:
                piece = reader._piece()
                if len(piece) > rest:  # the piece reaches into the next extent: give the excess back
                    excess = len(piece) - rest
                    reader._at -= excess
                    reader._left += excess
                    piece = piece[:rest]
                yield offset + length - rest, piece
                rest -= len(piece)

    def stored(self, take: Callable[[memoryview], object]) -> None:
        """Hand over what is stored, in order: all of the content where that is not `sparse`."""
        reader = self._reader
        while reader._left:
            take(reader._piece())

    def chunks(self) -> Iterator[memoryview | bytes]:
        """The content in pieces, holes as zeros."""
        reader = self._reader
        if reader._extents is None:
            while reader._left:
                yield reader._piece()
            return
        at = 0
        for offset, piece in self.segments():
            yield from _zeros(offset - at)
            yield piece
            at = offset + len(piece)
        yield from _zeros(reader._size - at)

    def read(self) -> bytes:
        """All of the content, which the caller knows to be small."""
        return b"".join(self.chunks())


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)


def truncated() -> LayerError:
    return LayerError("the archive ends in the middle of an entry", cure="Fetch the image again.")
