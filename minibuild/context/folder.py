"""A folder on this machine as a build context, with its ignore file applied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minibuild.context.links import follow
from minibuild.context.rows import Row
from minibuild.errors import UsageError
from minibuild.layers.entry import Entry, Kind
from minibuild.values import maker

if TYPE_CHECKING:
    from minibuild.dockerfile.ignorefile import IgnoreFile

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}
_FILE = Kind.FILE  # a member read from its class is slow, and so is a named tuple's own constructor
_NO_DEVICE = (0, 0)
_entry = maker(Entry)
_row = maker(Row)


class FolderView:
    """The files below `root`, all owned by root as in every build context; sockets are left out.

    A folder that the ignore file excludes still shows while something below it is not excluded.
    """

    def __init__(self, root: str, ignore: IgnoreFile | None = None) -> None:
        self.root = os.fsencode(root)
        self.ignore = ignore if ignore is not None and ignore.patterns else None

    def path(self, relative: bytes) -> bytes:
        return self.root + b"/" + relative if relative else self.root

    def resolve(self, path: bytes) -> bytes:
        return follow(path, self._readlink)

    def _readlink(self, path: bytes) -> bytes | None:
        try:
            return os.readlink(self.path(path))
        except OSError:
            return None

    def entry(self, path: bytes) -> Entry | None:
        row = self._row(path, self.path(path))
        if row is None or (path and self.ignore is not None and not self._visible(path, row)):
            return None
        return row.entry

    def names(self, path: bytes) -> list[bytes]:
        prefix = path + b"/" if path else b""
        found = sorted(self._listdir(self.path(path)))
        return [name for name in found if self.entry(prefix + name) is not None]

    def walk(self, path: bytes) -> Iterator[Row]:
        row = self._row(b"", self.path(path))
        if row is None:
            return
        yield row
        if row.entry.kind is Kind.DIR:
            if self.ignore is None:
                yield from self._walk_all(row.where, b"")
            else:
                yield from self._walk_visible(self.ignore, path, b"")

    def _walk_all(self, folder: bytes, prefix: bytes) -> Iterator[Row]:
        ways = [(_listed(folder), prefix)]
        while ways:
            items, prefix = ways[-1]
            for item in items:
                path = prefix + item.name
                row = _row_of(path, item.path, item.stat(follow_symlinks=False))
                if row is None:
                    continue
                yield row
                if row.entry.kind is Kind.DIR:
                    ways.append((_listed(item.path), path + b"/"))
                    break
            else:
                ways.pop()

    def _walk_visible(self, ignore: IgnoreFile, base: bytes, prefix: bytes) -> Iterator[Row]:
        """Like `_walk_all`; an ignored folder shows only once something below it does."""
        hidden: list[Row] = []  # the ignored folders above, as far as they do not show yet
        ways = [self._way(base, prefix)]
        while ways:
            names, above, prefix = ways[-1]
            for name in names:
                path = above + name
                row = self._row(prefix + name, self.path(path))
                if row is None:
                    continue
                text = os.fsdecode(path)
                ignored = ignore.ignores(text)
                folder = row.entry.kind is Kind.DIR
                if ignored and not (folder and ignore.may_contain(text)):
                    continue
                hidden.append(row)
                if not ignored:
                    yield from hidden
                    hidden.clear()
                if folder:
                    below = self._known_below(ignore, base, prefix + name + b"/")
                    if below is None:
                        ways.append(self._way(base, prefix + name + b"/"))
                        break
                    yield from hidden if below else ()
                    yield from below
                    del hidden[0 if below else -1 :]
            else:
                ways.pop()
                del hidden[-1:]

    def _way(self, base: bytes, prefix: bytes) -> tuple[Iterator[bytes], bytes, bytes]:
        """The names in a folder, and what comes before them in the context and in what is walked."""
        full = b"/".join(part for part in (base, prefix.rstrip(b"/")) if part)
        return iter(sorted(self._listdir(self.path(full)))), full + b"/" if full else b"", prefix

    def _known_below(self, ignore: IgnoreFile, base: bytes, prefix: bytes) -> list[Row] | None:
        """What shows below a folder, where that is known; None to have it walked."""
        return None

    def _visible(self, path: bytes, row: Row) -> bool:
        assert self.ignore is not None
        text = os.fsdecode(path)
        if not self.ignore.ignores(text):
            return True
        if row.entry.kind is not Kind.DIR or not self.ignore.may_contain(text):
            return False
        return next(self._walk_visible(self.ignore, path, b""), None) is not None

    def _row(self, relative: bytes, path: bytes) -> Row | None:
        try:
            return _row_of(relative, path, os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _listdir(self, path: bytes) -> list[bytes]:
        try:
            return os.listdir(path)
        except PermissionError as error:
            raise _unreadable(error) from None


def _row_of(relative: bytes, path: bytes, status: os.stat_result) -> Row | None:
    mode, mtime, ctime = status.st_mode, status.st_mtime_ns, status.st_ctime_ns
    kind = _KINDS.get(mode & 0o170000)
    if kind is None:
        return None
    size, link, device, inode, newest = 0, b"", _NO_DEVICE, b"", 0
    if kind is _FILE:
        size = status.st_size
        newest = mtime if mtime > ctime else ctime
        if status.st_nlink > 1:
            inode = b"%d:%d" % (status.st_dev, status.st_ino)
    elif kind is Kind.SYMLINK:
        link = os.readlink(path)
    elif kind is Kind.CHAR or kind is Kind.BLOCK:
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    stamp = b"%d %d %d %d" % (size, mtime, ctime, status.st_ino)
    entry = _entry((relative, kind, mode & 0o7777, 0, 0, size, mtime, link, device, ()))
    return _row((entry, path, stamp, inode, False, newest))


def _listed(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as scan:
            return iter(sorted(scan, key=_name))
    except PermissionError as error:
        raise _unreadable(error) from None


def _name(item: os.DirEntry[bytes]) -> bytes:
    return item.name


def _unreadable(error: OSError) -> UsageError:
    return UsageError(
        f"cannot read {os.fsdecode(error.filename)}: permission denied",
        cure="Change its mode, or leave it out of the build with a line in .dockerignore.",
    )
