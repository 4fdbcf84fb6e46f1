"""ADD of a local archive: its entries become entries of the layer."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING

from minibuild.context.place import Placement, kept_xattrs
from minibuild.engine.waiting import Waiting
from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarformat import BLOCK

if TYPE_CHECKING:
    from minibuild.layers.compress import Reader
    from minibuild.layers.tarreader import Body

_GZIP = b"\x1f\x8b"


def is_archive(path: bytes) -> bool:
    """Whether the file at `path` is a tar archive with something in it, compressed or not."""
    with open(path, "rb") as file:
        return _has_member(file)


def begins_archive(body: Body) -> bool:
    """The same of a content in a layer, of which no more is read than that takes."""
    return _has_member(BufferedReader(_Stream(body)))


def _has_member(file: BufferedReader) -> bool:
    """As BuildKit has it: the beginning decides, whether or not the rest is damaged or cut off."""
    from minibuild.layers.tarreader import TarReader

    try:
        return next(iter(TarReader(_Beginning(file), clip=True)), None) is not None
    except (LayerError, OSError, EOFError):
        return False


class _Stream(RawIOBase):
    """A content to be read as a file."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.chunks()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def extract_archive(
    path: bytes,
    dest: str,
    placement: Placement,
    waiting: Waiting,
    *,
    below: Callable[[bytes], bytes],
    rename: Callable[[bytes], bytes] | None = None,
) -> bool:
    """Put the entries of the tar archive at `path` below `dest`; False where the file is no archive.

    Any compression that is recognised by content (gzip, bzip2, xz, zstd) is taken off. Contents go to
    `waiting`. `below` fetches a file that a hard link names and the archive does not hold. `rename` makes
    other paths of the entries'. Raises `LayerError` for an archive that is damaged or cut short.
    """
    from minibuild.layers.tarreader import TarReader
    from minibuild.layers.zstdframes import check_whole

    if not is_archive(path):
        return False
    with open(path, "rb") as file:
        base = placement.resolve(os.fsencode(dest))
        placement.make_folders(base, mode=0o755)
        for entry, body in TarReader(_decompressed(file), clip=True):
            if rename is not None:
                link = rename(entry.link) if entry.kind is Kind.HARDLINK else entry.link
                entry = entry._replace(path=rename(entry.path), link=link)
            _put(entry, body, base, waiting, placement, below)
        check_whole(file)
    return True


def _put(
    entry: Entry,
    body: Body,
    base: bytes,
    waiting: Waiting,
    placement: Placement,
    below: Callable[[bytes], bytes],
) -> None:
    if not entry.path:
        return
    entry = entry._replace(xattrs=kept_xattrs(entry.xattrs))
    if entry.kind is Kind.HARDLINK:
        placement.put_link(entry, base, below)
    elif entry.kind is not Kind.FILE:
        placement.put(entry, base)
    else:
        placement.put(entry, base, data=waiting.keep(body))


class _Packed:
    """What is in a compressed stream."""

    def __init__(self, stream: Reader, *damage: type[Exception]) -> None:
        self._stream = stream
        self._damage = damage

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._damage as error:
            raise LayerError(f"the compressed data is damaged: {error}") from None


class _Beginning:
    """The same block by block: all that comes before damage, which readers of more at once would not give."""

    def __init__(self, file: BufferedReader) -> None:
        if file.peek(len(_GZIP)).startswith(_GZIP):
            import gzip  # igzip's reads 512 KiB ahead

            self._stream: Reader = _Packed(gzip.GzipFile(fileobj=file), zlib.error)
        else:
            self._stream = _decompressed(file)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, BLOCK))


def _decompressed(file: BufferedReader) -> Reader:
    from minibuild.layers.compress import decompressor

    head = file.peek(6)[:6]
    if head.startswith(b"BZh"):
        import bz2

        return _Packed(bz2.BZ2File(file), OSError, EOFError)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return _Packed(lzma.LZMAFile(file), lzma.LZMAError, EOFError)
    return decompressor(file)
