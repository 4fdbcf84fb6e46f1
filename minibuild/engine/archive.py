"""ADD of a local archive: its entries become entries of the layer."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild.context.place import Placement, kept_xattrs
from minibuild.engine.session import Session
from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarformat import BLOCK

if TYPE_CHECKING:
    from minibuild.layers.compress import Reader
    from minibuild.layers.tarreader import Body

_INLINE = 64 << 10


def is_archive(path: bytes) -> bool:
    """Whether the file at `path` is a tar archive with something in it, compressed or not."""
    from minibuild.layers.tarreader import TarReader

    with open(path, "rb") as file:
        try:
            return next(iter(TarReader(_decompressed(file), clip=True)), None) is not None
        except (LayerError, OSError, EOFError):
            return False


def extract_archive(
    session: Session,
    stack: ExitStack,
    path: bytes,
    dest: str,
    placement: Placement,
    *,
    below: Callable[[bytes], bytes],
    rename: Callable[[bytes], bytes] | None = None,
) -> bool:
    """Put the entries of the tar archive at `path` below `dest`; False where the file is no archive.

    Any compression that is recognised by content (gzip, bzip2, xz, zstd) is taken off. Contents are
    spooled to a workspace that lives as long as `stack`. `below` fetches a file that a hard link names
    and the archive does not hold. `rename` makes other paths of the entries'.
    """
    from minibuild.layers.tarreader import TarReader

    with open(path, "rb") as file:
        members = iter(TarReader(_decompressed(file), clip=True))
        try:
            first = next(members, None)
        except (LayerError, OSError, EOFError):
            return False
        if first is None:
            return False
        folder = stack.enter_context(session.store.workspace())
        base = placement.resolve(os.fsencode(dest))
        placement.make_folders(base, mode=0o755)
        for count, (entry, body) in enumerate(chain((first,), members)):
            if rename is not None:
                link = rename(entry.link) if entry.kind is Kind.HARDLINK else entry.link
                entry = entry._replace(path=rename(entry.path), link=link)
            _put(entry, body, base, folder / str(count), placement, below)
    return True


def _put(
    entry: Entry,
    body: Body,
    base: bytes,
    spool: Path,
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
    elif entry.size <= _INLINE:
        placement.put(entry, base, data=bytes(body.read()))
    else:
        with spool.open("wb") as out:
            for chunk in body.chunks():
                out.write(chunk)
        placement.put(entry, base, where=os.fsencode(spool))


class _Packed:
    """What is in a compressed stream, its first block alone: damage behind it makes it no less an archive."""

    def __init__(self, stream: Reader, *damage: type[Exception]) -> None:
        self._stream = stream
        self._damage = damage
        self._most = BLOCK

    def read(self, size: int, /) -> bytes:
        try:
            data = self._stream.read(min(size, self._most))
        except self._damage as error:
            raise LayerError(f"the archive's compressed data is damaged: {error}") from None
        self._most = size
        return data


def _decompressed(file: BufferedReader) -> Reader:
    from minibuild.layers.compress import decompressor

    head = file.peek(6)[:6]
    if head.startswith(b"BZh"):
        import bz2

        return _Packed(bz2.BZ2File(file), OSError, EOFError)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return _Packed(lzma.LZMAFile(file), lzma.LZMAError, EOFError)
    return _Packed(decompressor(file))
