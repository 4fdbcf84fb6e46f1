"""One hash over everything that `lstat` says of a selection: equal stamps, nothing changed.

Two ways to the same stamp: from rows that are there anyway, and straight from the disk for the common
case, a whole folder with nothing left out, at half the cost because no row is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import xxhash

from minibuild.context.rows import Match, Row
from minibuild.layers.entry import Kind

_FILE, _DIR, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_KINDS = {stat.S_IFIFO: Kind.FIFO, stat.S_IFCHR: Kind.CHAR, stat.S_IFBLK: Kind.BLOCK}
_by_name = attrgetter("name")


class Stamp(NamedTuple):
    """`newest` is the latest time (ns) at which one of the files was changed."""

    digest: bytes
    newest: int


def stamp_of(matches: Sequence[Match]) -> Stamp:
    """The stamp of these rows."""
    total = xxhash.xxh3_128()
    newest = 0
    for match in matches:
        stamping = Stamping(match.name, total)
        for row in match.rows:
            stamping.add(row)
        newest = max(newest, stamping.done().newest)
    return Stamp(total.digest(), newest)


class Stamping:
    """The stamp of a match called `name`, row by row."""

    def __init__(self, name: bytes, total: Any = None) -> None:
        self._total = xxhash.xxh3_128() if total is None else total
        self._total.update(b"match %b\n" % name)
        self._newest = 0

    def add(self, *rows: Row) -> None:
        """The next rows."""
        lines = []
        for entry, _where, stamp, _inode, _leads, newest in rows:
            path, kind, mode, _uid, _gid, _size, _mtime, link, _device, _xattrs = entry
            lines.append(b"%b\0%b %o %b %b\n" % (path, kind.encode(), mode, stamp, link))
            if newest > self._newest:
                self._newest = newest
        self._total.update(b"".join(lines))

    def done(self) -> Stamp:
        return Stamp(self._total.digest(), self._newest)


def stamp_folder(name: bytes, path: bytes) -> Stamp | None:
    """The stamp of one match called `name`, of all that is at `path`; None where it cannot be read."""
    walk = _Walk(name)
    try:
        status = os.lstat(path)
        walk.add(b"", path, status)
        if stat.S_ISDIR(status.st_mode):
            walk.below(path, b"")
    except OSError:
        return None
    return Stamp(walk.total.digest(), walk.newest)


class _Walk:
    def __init__(self, name: bytes) -> None:
        self.total: Any = xxhash.xxh3_128(b"match %b\n" % name)
        self.newest = 0

    def below(self, folder: bytes, prefix: bytes) -> None:
        """Everything in `folder`, in the order of rows: siblings bytewise, a folder before what is in it."""
        newest = self.newest
        lines: list[bytes] = []
        add = lines.append
        with os.scandir(folder) as scan:
            items = sorted(scan, key=_by_name)
        for item in items:
            status = item.stat(follow_symlinks=False)
            mode = status.st_mode
            if mode & 0o170000 == _FILE:
                mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
                if ctime > newest or mtime > newest:
                    newest = max(mtime, ctime)
                add(
                    b"%b\x000 %o %d %d %d %d \n"
                    % (prefix + item.name, mode & 0o7777, status.st_size, mtime, ctime, status.st_ino)
                )
                continue
            self.total.update(b"".join(lines))
            lines.clear()
            path = prefix + item.name
            self.add(path, item.path, status)
            if mode & 0o170000 == _DIR:
                self.newest = newest
                self.below(item.path, path + b"/")
                newest = self.newest
        self.total.update(b"".join(lines))
        self.newest = newest

    def add(self, relative: bytes, path: bytes, status: os.stat_result) -> None:
        """One path of any kind, as a row of it would be stamped."""
        mode = status.st_mode
        kind = mode & 0o170000
        size, link = 0, b""
        if kind == _DIR:
            letter = Kind.DIR
        elif kind == _LINK:
            letter, link = Kind.SYMLINK, os.readlink(path)
        elif kind == _FILE:
            letter, size = Kind.FILE, status.st_size
            self.newest = max(self.newest, status.st_mtime_ns, status.st_ctime_ns)
        elif kind in _KINDS:
            letter = _KINDS[kind]
        else:
            return  # a socket
        stamp = (size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        self.total.update(
            b"%b\0%b %o %b %b\n" % (relative, letter.encode(), mode & 0o7777, b"%d %d %d %d" % stamp, link)
        )
