"""ADD of a local archive: its entries become entries of the layer."""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild.context.place import Placement
from minibuild.engine.session import Session
from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind

if TYPE_CHECKING:
    from minibuild.layers.compress import Reader
    from minibuild.layers.tarreader import Body

_INLINE = 64 << 10


def extract_archive(session: Session, stack: ExitStack, path: bytes, dest: str, placement: Placement) -> bool:
    """Put the entries of the tar archive at `path` below `dest`; False where the file is no archive.

    Any compression that is recognised by content (gzip, bzip2, xz, zstd) is taken off. Contents are
    spooled to a workspace that lives as long as `stack`.
    """
    from minibuild.layers.tarreader import TarReader

    with open(path, "rb") as file:
        stream = _decompressed(file)
        members = iter(TarReader(stream))
        try:
            first = next(members, None)
        except (LayerError, OSError, EOFError):
            return False
        if first is None:
            return False
        folder = stack.enter_context(session.store.workspace())
        base = placement.resolve(os.fsencode(dest))
        placement.make_folders(base)
        count = 0
        member: tuple[Entry, Body] | None = first
        while member is not None:
            _put(member[0], member[1], base, folder / str(count), placement)
            count += 1
            member = next(members, None)
    return True


def _put(entry: Entry, body: Body, base: bytes, spool: Path, placement: Placement) -> None:
    if not entry.path:
        return
    path = base + b"/" + entry.path if base else entry.path
    link = entry.link
    if entry.kind is Kind.HARDLINK and base:
        link = base + b"/" + link
    entry = entry._replace(path=path, link=link)
    if entry.kind is not Kind.FILE:
        placement.put(entry)
        return
    data = body.read()
    if entry.size <= _INLINE:
        placement.put(entry, data=bytes(data))
        return
    spool.write_bytes(data)
    placement.put(entry, where=os.fsencode(spool))


def _decompressed(file: BufferedReader) -> Reader:
    from minibuild.layers.compress import decompressor

    head = file.peek(6)[:6]
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.LZMAFile(file)
    return decompressor(file)
