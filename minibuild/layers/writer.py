"""Entries and their contents to a layer blob, in one pass."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.compress import DEFAULT, Compression
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import KEPT_FILES, KEPT_SIZE, IndexBuilder
from minibuild.layers.sink import LayerSink, Seen
from minibuild.layers.tarheader import BLOCK, END, header
from minibuild.values import NamedTuple, maker

_FILE: Final = Kind.FILE  # a member read from its class is slow
_entry: Final = maker(Entry)
_SECOND: Final = 1_000_000_000
_ZEROS: Final = [bytes(count) for count in range(BLOCK)]
# a source that has become a fifo must not block, nor a link lead elsewhere
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileAt(NamedTuple):
    """A file to read; a relative `path` is under the directory `dir_fd`. Its last part is no link."""

    path: bytes | str
    dir_fd: int | None = None


Source = bytes | FileAt | os.PathLike[bytes] | os.PathLike[str] | int


class LayerResult(NamedTuple):
    """A finished layer blob; `index` is a packed `LayerIndex` of its entries, for one reader."""

    diff_id: Digest
    digest: Digest
    size: int
    media_type: str
    uncompressed_size: int
    entries: int
    index: bytes | bytearray  # type: ignore[assignment]  # hides tuple.index, which nobody needs


class LayerWriter:
    """Writes a layer to `fd`, from its file offset on; the file descriptor stays the caller's.

    Entries come parents first and are written in the order they come: the diff ID is a function of
    the entries, their contents and the order. Times are cut to whole seconds, and to
    `clamp_mtime_ns` where later. Once a method has raised, the layer is lost; as a context manager it
    also ends with errors from elsewhere. One caller at a time.
    """

    def __init__(
        self, fd: int, compression: Compression = DEFAULT, clamp_mtime_ns: int | None = None
    ) -> None:
        self._compression = compression
        self._clamp = clamp_mtime_ns
        self._flags = _FLAGS | os.O_NOATIME
        self._sink = LayerSink(fd, compression)
        self._index = IndexBuilder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def add(self, entry: Entry, source: Source | None = None, seen: Seen | None = None) -> None:
        """Write `entry`; a regular file needs a source of exactly `entry.size` bytes.

        `source` is the content itself (bytes), a file to read (`FileAt`, path object), or a file
        descriptor to read from its offset on. A file that is no longer as long as the entry says
        raises `LayerError`; one that cannot be read, or a disk that is full, `OSError`. `seen` is shown
        the content as it passes, for a hash of it that needs no reading of its own.
        """
        try:
            self._add(entry, source, seen)
        except BaseException:
            self.abort()
            raise

    def _add(self, entry: Entry, source: Source | None, seen: Seen | None) -> None:
        path, kind, mode, uid, gid, size, mtime, link, device, xattrs = entry
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        mtime -= mtime % _SECOND
        if kind is not _FILE:
            size = 0
        # what the index says is what a reader of the archive will see
        entry = _entry((path, kind, mode, uid, gid, size, mtime, link, device, xattrs))
        if path in KEPT_FILES and kind is _FILE and size <= KEPT_SIZE:
            source = self._keep(entry, source)
        self._index.add(entry)
        if kind is _FILE:
            self._file(entry, source, seen)
        else:
            self._sink.write(header(entry))

    def close(self) -> LayerResult:
        """End the archive and the blob."""
        try:
            self._sink.write(END)
            done = self._sink.close()
        finally:
            self.abort()
        return LayerResult(
            done.diff_id,
            done.digest,
            done.size,
            self._compression.media_type,
            done.uncompressed_size,
            len(self._index),
            self._index.dump(),
        )

    def abort(self) -> None:
        """Give up the layer. Harmless after `close`."""
        self._sink.abort()

    def _file(self, entry: Entry, source: Source | None, seen: Seen | None) -> None:
        size = entry.size
        head, tail = header(entry), _ZEROS[-size % BLOCK]
        if isinstance(source, int):
            got = self._sink.member(head, source, size, tail, seen)
        elif source is None or isinstance(source, bytes):
            content = source or b""
            got = len(content)
            if seen is not None:
                seen(content)
            self._sink.write(head + content + tail)
        else:
            fd = self._open(source)
            try:
                got = self._sink.member(head, fd, size, tail, seen)
            finally:
                os.close(fd)
        if got != size:
            raise _changed(entry)

    def _open(self, source: FileAt | os.PathLike[bytes] | os.PathLike[str]) -> int:
        path, dir_fd = source if isinstance(source, FileAt) else (source, None)
        try:
            return os.open(path, self._flags, dir_fd=dir_fd)
        except PermissionError:
            if not self._flags & os.O_NOATIME:
                raise
        # reading without a trace is for the owner of a file only
        self._flags &= ~os.O_NOATIME
        return os.open(path, self._flags, dir_fd=dir_fd)

    def _keep(self, entry: Entry, source: Source | None) -> bytes:
        """The whole content, remembered for the index."""
        if source is None or isinstance(source, bytes):
            content = source or b""
        elif isinstance(source, int):
            content = _read(source, entry.size + 1)
        else:
            fd = self._open(source)
            try:
                content = _read(fd, entry.size + 1)
            finally:
                os.close(fd)
        if len(content) != entry.size:
            raise _changed(entry)
        self._index.files[entry.path] = content
        return content


def _read(fd: int, size: int) -> bytes:
    """`size` bytes, fewer at the end of the file only."""
    pieces = []
    while size and (piece := os.read(fd, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _changed(entry: Entry) -> LayerError:
    name = os.fsdecode(entry.path)
    return LayerError(
        f"{name} changed while it was read: it is no longer {entry.size} bytes long",
        cure="Build again once nothing writes to it.",
    )
