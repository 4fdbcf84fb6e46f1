"""Content digests of what a COPY takes, without reading again what has not changed.

Two tables, both kept by context folder, both only a proof that a local file is what was hashed
before (design as git's index): *selections* hold, for a pattern, one hash over every row's stamp
beside the content digest it stood for; *files* hold the stamp and SHA-256 of each file. A file
that changed less than two seconds before it was looked at is "racy": a second write in the same
clock tick would not show in its stamp, so it is never remembered. Two seconds are not for the clock
alone: the kernel sets the time of a write before it copies the data, which may take a while.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from minibuild_store import stopping
from minibuild_store.shorthash import sha256

from minibuild.context.rows import Match, Row
from minibuild.errors import UsageError
from minibuild.layers.entry import Kind

_FILE = Kind.FILE  # a member read from its class is slow
if TYPE_CHECKING:
    from minibuild.context.filetable import FileTable
    from minibuild.context.placed import Placed

_RACY_NS = 2_000_000_000
_CHUNK = 1 << 20
_PARALLEL_BYTES = 8 << 20
_LARGE = 4 << 20  # bytes of a table
_LISTED = 12  # digits of a digest: as many as are shown
_PIECE = 16 << 10


class Records(Protocol):
    """The part of a store's records that the tables need."""

    def get(self, name: str) -> bytes | None: ...

    def mark(self, name: str) -> bytes | None: ...

    def put(self, name: str, data: bytes | bytearray) -> None: ...


class FileDigests:
    """The tables of one context folder `root`."""

    def __init__(
        self,
        root: str,
        selections: Records,
        files: Records,
        listings: Records,
        scratch: Callable[[], int] | None = None,
    ) -> None:
        self._name = sha256(os.fsencode(os.path.realpath(root))).hexdigest()
        self._above = len(os.fsencode(root)) + 1  # what a row's place has before the path in the folder
        self._selections = selections
        self._files = files
        self._listings = listings
        self._scratch = scratch
        self._table: FileTable | None = None
        self._mark: bytes | None = None
        self._large = False

    def remember(self, selection: str, stamp: bytes, content: str) -> None:
        """Keep the content digest of what `selection` (pattern, flags, ignores) found with this stamp."""
        self._selections.put(self._selection(selection), stamp + content.encode())

    def keep_listing(self, content: str, listed: bytes) -> None:
        self._listings.put(content, listed)

    def known(self, selection: str, look: Callable[[], bytes]) -> str | None:
        """The digest of `selection`, if a look at it gives the same stamp as before."""
        known = self._selections.get(self._selection(selection))
        if known is None:
            return None
        return known[16:].decode() if known[:16] == look() else None

    def taken_before(self, selection: str) -> bool:
        """Whether a digest of `selection` is kept, with whatever stamp."""
        return self._selections.get(self._selection(selection)) is not None

    def note_written(self, what: str) -> None:
        """Remember that `what` was made of the folder: for a guess, as nothing is said of its files."""
        self._selections.put(self._written(what), b"")

    def written_before(self, what: str) -> bool:
        return self._selections.get(self._written(what)) is not None

    def _written(self, what: str) -> str:
        # not named for the folder as others are: it goes when it was of no use for a while
        return f"written-{sha256(f'{self._name} {what}'.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def _selection(self, selection: str) -> str:
        return f"{self._name}-{sha256(selection.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def save(self) -> None:
        """Keep what was hashed for the next build."""
        table = self._table
        if table is not None and table.fresh:
            # another stage or build may have saved meanwhile: add to what is there now
            same = self._files.mark(self._name) == self._mark
            self._files.put(self._name, table.whole() if same else table.merged(self._files.get(self._name)))
            self._table = None

    def rest(self) -> None:
        """Hold no large table until something is asked of it again."""
        if self._table is not None and self._table.size > _LARGE:
            self.save()
            self._table = None
            self._large = True

    @property
    def table(self) -> FileTable:
        """What is known of files, each by its path and stamp."""
        if self._table is None:
            from minibuild.context.filetable import FileTable

            self._mark = self._files.mark(self._name)
            self._table = FileTable(self._files.get(self._name), self._scratch)
        return self._table

    def heard_of(self, row: Row) -> bool:
        """Whether the file was ever hashed, as it is or as it was."""
        return row.where[self._above :] in self.table

    def at_hand(self, file: Placed) -> str | None:
        """The SHA-256 (hex) of a file, where it is known and no large table has to be loaded for it."""
        if self._large:
            return None
        known = self.table.get(file.where[self._above :], file.stamp)
        self.rest()
        return known

    def hashed(self, rows: Iterable[Row]) -> list[str | None]:
        """The SHA-256 (hex) of each file, where it was hashed when it was as its row says."""
        above = self._above
        return self.table.known([(row.where[above:], row.stamp) for row in rows])

    def note(self, row: Row, digest: str) -> None:
        """A file had this SHA-256 (hex) when its row was made; it is not `racy`."""
        self.table.note(row.where[self._above :], row.stamp, digest)


def racy(newest: int, began: int) -> bool:
    """Whether a change after `began` (ns) may not show in the stamp of what was last changed at `newest`."""
    return newest >= began - _RACY_NS


def content_digest(matches: Iterable[Match], digests: dict[bytes, str], *, modes: bool = True) -> str:
    """SHA-256 (hex) over names, types, modes, owners, contents and link targets; times do not enter.

    Without `modes` those that will all be set to one do not enter either.
    """
    import hashlib

    total = hashlib.sha256()
    for match in matches:
        lines = [content_head(match.name)]
        inodes: dict[bytes, bytes] = {}
        for row in match.rows:
            same = inodes.setdefault(row.inode, row.entry.path) if row.inode else None
            lines.append(content_line(row, digests.get(row.where, ""), same, modes=modes))
        total.update(b"".join(lines))
    return total.hexdigest()


def content_head(name: bytes) -> bytes:
    """What a match called `name` adds to the content digest, before its rows."""
    return b"match %d %b\n" % (len(name), name)


def content_line(row: Row, digest: str, same: bytes | None, *, modes: bool) -> bytes:
    """What one row adds, with the SHA-256 (hex) of a file.

    `same` is the first name in the match of a file that has an `inode`, None for one that has not.
    """
    entry, _where, _stamp, _inode, leads, _newest = row
    path, kind, mode, uid, gid, _size, _mtime, link, device, xattrs = entry
    if kind is _FILE:
        content = digest.encode()
        if same is not None:
            content += b" same as " + same
    elif kind is Kind.CHAR or kind is Kind.BLOCK:
        content = b"%d:%d" % device
    else:
        content = b"leads" if leads else link
    if not (modes or leads):
        mode = 0
    line = (len(path), path, kind.encode(), mode, uid, gid, len(content), content)
    text = b"%d %b %b %o %d:%d %d %b" % line
    for name, value in xattrs:
        text += b" %d %b=%d %b" % (len(name), name, len(value), value)
    return text + b"\n"


def listing_line(name: bytes, row: Row, digest: str) -> bytes:
    """The line of one row of the match called `name`, with the first digits of a file's SHA-256 (hex)."""
    path, kind, mode, uid, gid, _size, _mtime, link, _device, _xattrs = row.entry
    if name and path:
        path = name + b"/" + path
    content = digest[:_LISTED].encode() if kind is _FILE else link
    return b"%b\0%b %o %d:%d %b" % (path or name, kind.encode(), mode, uid, gid, content)


def read_listing(data: bytes) -> Iterator[bytes]:
    """The lines that stand behind a content digest, with few of them in memory."""
    import zlib

    unpacker = zlib.decompressobj()
    begun = b""
    for start in range(0, len(data), _PIECE):
        lines = (begun + unpacker.decompress(data[start : start + _PIECE])).split(b"\n")
        begun = lines.pop()
        head = b""
        for line in lines:
            if b"\0" in line:
                yield head + line
                head = b""
            elif line or head:  # a name may hold a line end
                head += line + b"\n"
        begun = head + begun
    if b"\0" in begun:
        yield begun


def hash_files(rows: Sequence[Row]) -> list[str]:
    """The SHA-256 (hex) of the files of `rows`; on two threads (hashing frees the GIL) where it is much."""
    results: list[str] = [""] * len(rows)
    if sum(row.entry.size for row in rows) < _PARALLEL_BYTES or len(rows) < 2:
        for index, row in enumerate(rows):
            results[index] = hash_file(row.where, row.entry.size)
        return results
    import threading
    from functools import partial

    from minibuild.threads import start

    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for index in range(first, len(rows), 2):
                results[index] = hash_file(rows[index].where, rows[index].entry.size)
        except BaseException as error:
            errors.append(error)

    other = threading.Thread(target=stopping.carried(partial(work, 1)))
    start(other)
    work(0)
    other.join()
    if errors:
        raise errors[0]
    return results


def hash_file(path: bytes, size: int) -> str:
    """The SHA-256 (hex) of a file of about `size` bytes. Extended attributes do not travel with a context."""
    import hashlib

    descriptor = open_file(path)
    try:
        # one read tells that there is no more than expected; a large buffer for a small file costs dearly
        chunk = os.read(descriptor, min(size + 1, _CHUNK))
        digest = hashlib.sha256(chunk)
        while chunk and not len(chunk) <= size < _CHUNK:
            stopping.check()
            chunk = os.read(descriptor, _CHUNK)
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def open_file(path: bytes) -> int:
    """Open a regular file of a context to read it; raises `UsageError`."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(
            f"cannot read {os.fsdecode(path)}: {error.strerror}",
            cure="Change its mode, or leave it out of the build with a line in .dockerignore.",
        ) from None
