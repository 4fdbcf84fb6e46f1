"""One hash over everything that `lstat` says of a selection: equal stamps, nothing changed.

Two ways to the same stamp: from rows that are there anyway, and straight from the disk, at half the cost
because no row is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import xxhash

from minibuild.context.folder import FolderView
from minibuild.context.rows import Match, Row
from minibuild.context.select import matching, patterns, split_wildcards
from minibuild.errors import MinibuildError
from minibuild.layers.entry import Kind
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.dockerfile.patterns import PatternList

_FILE, _DIR, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_FILE_LETTER = Kind.FILE  # a member read from its class is slow
_KINDS = {
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}
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


def stamp_selection(view: FolderView, pattern: str, exclude: tuple[str, ...] = ()) -> bytes | None:
    """The digest in the stamp of what `select` finds, with no row made; None where it has to look itself."""
    walk = _Walk(view, patterns(exclude))
    base, wild = split_wildcards(pattern)
    try:
        for path in matching(view, pattern) if wild else [base]:
            if not walk.match(path.rpartition(b"/")[2], path if wild else view.resolve(path)):
                return None
    except (OSError, MinibuildError):
        return None
    return walk.done()


class _Walk:
    """The same steps as those of a view's walk, less `excluded`, each straight into the stamp."""

    def __init__(self, view: FolderView, excluded: PatternList | None) -> None:
        self._view = view
        self._ignore = view.ignore
        self._excluded = excluded
        self._total: Any = xxhash.xxh3_128()
        self._lines: list[bytes] = []
        # folders, each with its line, that show only once something below them does
        self._ignored: list[tuple[bytes, bytes]] = []
        self._leading: list[tuple[bytes, bytes]] = []  # of those that show, the excluded ones

    def match(self, name: bytes, path: bytes) -> bool:
        """Add all that is at `path`, called `name`; False where there is nothing to see."""
        view = self._view
        status = os.lstat(view.path(path))
        if stat.S_ISLNK(status.st_mode):
            path = view.resolve(path)
            status = os.lstat(view.path(path))
        if self._ignore is not None and view.entry(path) is None:
            return False
        full = view.path(path)
        line = self._line(b"", full, status)
        if not line:
            return False
        self._ignored, self._leading = [], []
        self._lines += (b"match %b\n" % name, line)
        if stat.S_ISDIR(status.st_mode):
            self._folder(full, b"", path + b"/" if path else b"")
        return True

    def done(self) -> bytes:
        self._total.update(b"".join(self._lines))
        digest: bytes = self._total.digest()
        return digest

    def _folder(self, folder: bytes, prefix: bytes, inside: bytes) -> None:
        """What is in `folder`, siblings bytewise, a folder before what is in it.

        Its paths begin with `inside` in the view, and with `prefix` below the match.
        """
        plain = self._excluded is None
        add = self._lines.append
        for item in self._kept(folder, inside):
            status = item.stat(follow_symlinks=False)
            mode = status.st_mode
            path = prefix + item.name
            if mode & 0o170000 == _FILE and plain and not self._ignored:
                mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
                numbers = (path, mode & 0o7777, status.st_size, mtime, ctime, status.st_ino)
                add(b"%b\x000 %o %d %d %d %d \n" % numbers)
                continue
            line = self._line(path, item.path, status)
            if not line:
                continue
            is_dir = mode & 0o170000 == _DIR
            if is_dir and self._ignores(inside + item.name):
                self._ignored = [*_above(self._ignored, path), (path, line)]
            else:
                self._reveal(path, line, is_dir=is_dir)
            if is_dir:
                self._folder(item.path, path + b"/", inside + item.name + b"/")
        self._total.update(b"".join(self._lines))
        self._lines.clear()

    def _kept(self, folder: bytes, inside: bytes) -> list[os.DirEntry[bytes]]:
        """What is in `folder`, but for what is ignored with all that is below it."""
        with os.scandir(folder) as scan:
            items = sorted(scan, key=_by_name)
        ignore, above = self._ignore, os.fsdecode(inside)
        if ignore is None or ignore.spares(above[:-1]):
            return items
        ignores, decode = ignore.ignores, os.fsdecode
        return [
            item
            for item in items
            if not ignores(path := above + decode(item.name))
            or (item.is_dir(follow_symlinks=False) and ignore.may_contain(path))
        ]

    def _ignores(self, path: bytes) -> bool:
        return self._ignore is not None and self._ignore.ignores(os.fsdecode(path))

    def _reveal(self, path: bytes, line: bytes, *, is_dir: bool) -> None:
        """Add a path that is not ignored, behind the ignored folders that it is in, unless it is excluded."""
        if self._ignored:
            for known in _above(self._ignored, path):
                self._show(*known, is_dir=True)
            self._ignored.clear()
        self._show(path, line, is_dir=is_dir)

    def _show(self, path: bytes, line: bytes, *, is_dir: bool) -> None:
        """Add a path unless it is excluded."""
        if self._excluded is None:
            self._lines.append(line)
            return
        leading = _above(self._leading, path) if self._leading else []
        if not self._excluded.matches(os.fsdecode(path)):
            self._lines += [known for _, known in leading]
            self._lines.append(line)
            leading.clear()
        elif is_dir:
            leading.append((path, line))
        self._leading = leading

    def _line(self, relative: bytes, path: bytes, status: os.stat_result) -> bytes:
        """What a row of this path would be stamped with; nothing for a socket."""
        mode = status.st_mode
        kind = mode & 0o170000
        size, link = 0, b""
        if kind == _FILE:
            letter, size = _FILE_LETTER, status.st_size
        elif kind == _LINK:
            letter, link = Kind.SYMLINK, os.readlink(path)
        elif kind in _KINDS:
            letter = _KINDS[kind]
        else:
            return b""
        numbers = (mode & 0o7777, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return b"%b\0%b %o %d %d %d %d %b\n" % (relative, letter.encode(), *numbers, link)


def _above(folders: list[tuple[bytes, bytes]], path: bytes) -> list[tuple[bytes, bytes]]:
    """Those of `folders` that `path` is in."""
    return [folder for folder in folders if path.startswith(folder[0] + b"/")]
