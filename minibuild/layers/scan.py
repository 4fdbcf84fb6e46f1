"""Read a layer blob without unpacking it: its index, or the content of chosen files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.compress import Reader
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import KEPT_FILES, KEPT_SIZE, IndexBuilder, LayerIndex
from minibuild.layers.layout import Layout, is_row
from minibuild.layers.stream import LayerStream
from minibuild.layers.tarblocks import Body
from minibuild.layers.tarformat import show
from minibuild.layers.tarreader import TarReader

# Files are chosen by path, of which the last in the layer counts, or by position (`Node.position`),
# which is exact and lets a pass end with the last of them.
Key = TypeVar("Key", bytes, int)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_ZEROS = bytes(1 << 20)


def index_blob(fileobj: Reader, media_type: str | None, diff_id: Digest) -> LayerIndex:
    """The index of the layer blob `fileobj`. Raises `LayerError` for a bad layer or a wrong `diff_id`."""
    builder = IndexBuilder()
    layout = Layout()
    place, add = layout.place, builder.add
    with LayerStream(fileobj, media_type, diff_id) as stream:
        for member, body in TarReader(stream):
            entry = place(member)
            if entry is None:
                continue
            add(entry)
            if entry.path in KEPT_FILES and entry.kind is Kind.FILE and entry.size <= KEPT_SIZE:
                builder.files[entry.path] = body.read()
        stream.verify()
    builder.files = {path: data for path, data in builder.files.items() if layout.holds_file(path)}
    return builder.build()


def rows(fileobj: Reader, media_type: str | None) -> Iterator[tuple[int, Entry, Body]]:
    """(position, member, body) of all that the layer blob holds, in archive order; as in its index.

    The member is as the archive has it: paths through links are not settled, as nothing is kept of what
    went by. The blob is one that an index was made of.
    """
    with LayerStream(fileobj, media_type, None) as stream:
        position = 0
        for member, body in TarReader(stream):
            if is_row(member):
                yield position, member, body
                position += 1


def extract(fileobj: Reader, media_type: str | None, wanted: Mapping[Key, Path]) -> dict[Key, str]:
    """Write the content of the `wanted` regular files to the paths given, in one pass.

    Returns the SHA-256 of each, in hex. Holes stay holes. Raises `LayerError` where one is missing.
    """
    found = {}
    for key, body in _chosen(fileobj, media_type, wanted):
        fd = os.open(wanted[key], _CREATE, 0o600)
        try:
            found[key] = _copy(body, fd)
        finally:
            os.close(fd)
    return _complete(found, wanted)


def digests(fileobj: Reader, media_type: str | None, wanted: Collection[Key]) -> dict[Key, str]:
    """The SHA-256 in hex of each of the `wanted` regular files. Raises `LayerError` where one is missing."""
    found = {key: _copy(body, None) for key, body in _chosen(fileobj, media_type, wanted)}
    return _complete(found, wanted)


def hashed(fileobj: Reader, media_type: str | None, wanted: bytearray) -> Iterator[tuple[int, bytes]]:
    """(position, SHA-256) of the regular files whose position has a byte other than 0 in `wanted`, in order.

    Raises `LayerError` where one is missing.
    """
    for position, body in bodies(fileobj, media_type, wanted):
        yield position, bytes.fromhex(_copy(body, None))


def bodies(
    fileobj: Reader, media_type: str | None, wanted: bytearray
) -> Generator[tuple[int, Body], None, None]:
    """The same with the content of each, to be read before the next is asked for."""
    position = -1
    for position, member, body in rows(fileobj, media_type):
        if wanted[position]:
            if member.kind is not Kind.FILE:
                break
            yield position, body
        if position == len(wanted) - 1:
            return
    raise LayerError(f"the layer has no regular file at position {position}")


def _chosen(fileobj: Reader, media_type: str | None, wanted: Collection[Key]) -> Iterator[tuple[Key, Body]]:
    if not wanted:
        return
    keys = frozenset(wanted)
    last = max((key for key in keys if isinstance(key, int)), default=None)
    found: Iterator[tuple[Any, Entry, Body]]
    found = _by_path(fileobj, media_type) if last is None else rows(fileobj, media_type)
    for key, member, body in found:
        if key in keys and member.kind is Kind.FILE:
            yield key, body
        if key == last:
            return


def _by_path(fileobj: Reader, media_type: str | None) -> Iterator[tuple[bytes, Entry, Body]]:
    place = Layout().place
    with LayerStream(fileobj, media_type, None) as stream:
        for member, body in TarReader(stream):
            entry = place(member)
            if entry is not None:
                yield entry.path, entry, body


def _copy(body: Body, fd: int | None) -> str:
    """Hash the content, and write it where there is a `fd`."""
    digest = hashlib.sha256()
    at = 0
    for offset, piece in body.segments():
        _hash_zeros(digest.update, offset - at)
        digest.update(piece)
        at = offset + len(piece)
        if fd is not None:
            _write_at(fd, piece, offset)
    _hash_zeros(digest.update, body.size - at)
    if fd is not None and body.sparse:
        os.ftruncate(fd, body.size)
    return digest.hexdigest()


def save(body: Body, fd: int) -> None:
    """Write the content to the empty file `fd`; holes stay holes."""
    for offset, piece in body.segments():
        _write_at(fd, piece, offset)
    if body.sparse:
        os.ftruncate(fd, body.size)


def _hash_zeros(update: Callable[[bytes], object], count: int) -> None:
    while count > 0:
        update(_ZEROS[:count])
        count -= len(_ZEROS)


def _write_at(fd: int, piece: memoryview, offset: int) -> None:
    done = 0
    while done < len(piece):
        done += os.pwrite(fd, piece[done:], offset + done)


def _complete(found: dict[Key, str], wanted: Collection[Key]) -> dict[Key, str]:
    for key in wanted:
        if key not in found:
            name = show(key) if isinstance(key, bytes) else f"at position {key}"
            raise LayerError(f"the layer has no regular file {name}")
    return found
