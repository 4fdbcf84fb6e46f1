"""What a COPY selects from a folder, walked once: its stamp, and its rows as often as they are asked for.

The stamp is one hash over everything that `lstat` says of the selection: equal stamps, nothing changed. What
is hashed, a line a path, is all that a row is made of, so rows are made of the lines, and only where the
stamp is not the one that was known.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import xxhash
from minibuild_store import stopping

from minibuild.context.folder import FolderView
from minibuild.context.lines import NO_DEVICE, Block, Blocks, Opening, Rest, rows
from minibuild.context.listing import Item, listed
from minibuild.context.rows import Head, Row
from minibuild.context.select import matching, parents_of, patterns, select, single, split_wildcards
from minibuild.errors import MinibuildError, UsageError
from minibuild.layers.entry import Kind

if TYPE_CHECKING:
    from minibuild.dockerfile.patterns import PatternList

_FILE, _DIR, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_FILE_KIND = Kind.FILE  # a member read from its class is slow
_KINDS = {
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}
_AT_ONCE = 1_000  # lines that are hashed together
_Found = tuple[bytes, bytes, "Rest | None"]  # a path, its line, the rest


class Survey:
    """The paths of `view` that `pattern` selects (see `select`); `scratch` gives an empty file's descriptor.

    Nothing is walked before something is asked for. Raises as `select` does.
    """

    def __init__(
        self,
        view: FolderView,
        pattern: str,
        *,
        exclude: tuple[str, ...] = (),
        parents: bool = False,
        scratch: Callable[[], int],
    ) -> None:
        self._view = view
        self._pattern = pattern
        self._exclude = exclude
        self._parents = parents
        self._scratch = scratch
        self._blocks = Blocks(scratch)
        self._total: Any = xxhash.xxh3_128()
        self._walked = self._kept = False
        self._keep = True
        self.began = 0
        """When the walk began (ns)."""

    @property
    def one(self) -> bool:
        """Whether it is one match at most, by its pattern."""
        return single(self._pattern, parents=self._parents)

    def stamp(self) -> bytes:
        """Of everything that is selected."""
        if not self._walked:
            for _ in self._walk():
                pass
        stamp: bytes = self._total.digest()
        return stamp

    def __iter__(self) -> Iterator[Head | Row]:
        """A head for each match, followed by its rows: as `select` finds them, in that order."""
        if not self._kept:
            for _ in self._walk():
                pass
        return rows(iter(self._blocks))

    def walking(self) -> Iterator[Head | Row]:
        """The same while it is walked."""
        return rows(self._walk())

    def forget(self) -> None:
        """Keep nothing of the walk that is going on: it is gone through this once."""
        self._keep = False
        self._blocks = Blocks(self._scratch)

    def _walk(self) -> Iterator[Block]:
        self._blocks = Blocks(self._scratch)
        self._total = xxhash.xxh3_128()
        self.began = time.time_ns()
        walk = _Walk(self._view, patterns(self._exclude), self._scratch)
        if self._parents:
            blocks = walk.rows(parents_of(self._view, self._pattern, exclude=self._exclude))
        else:
            blocks = walk.all(self._pattern)
        while (block := self._next(blocks)) is not None:
            stopping.check()
            self._total.update(b"".join(block.lines))
            if self._keep:
                self._blocks.add(block)
            yield block
        self._walked, self._kept = True, self._keep

    def _next(self, blocks: Iterator[Block]) -> Block | None:
        try:
            return next(blocks, None)
        except (OSError, MinibuildError):
            # what is wrong, and its cure, is known there
            select(self._view, self._pattern, exclude=self._exclude, parents=self._parents)
            raise UsageError(
                f"{os.fsdecode(self._view.root)} changed while it was being looked at",
                cure="Build again once nothing writes to the build context.",
            ) from None


class _Walk:
    """The same steps as those of a view's walk, less `excluded`, each straight into a line."""

    def __init__(self, view: FolderView, excluded: PatternList | None, scratch: Callable[[], int]) -> None:
        self._view = view
        self._scratch = scratch
        self._ignore = view.ignore
        self._excluded = excluded
        self._lines: list[bytes] = []
        self._marks: dict[int, Opening | Rest] = {}
        # folders that show only once something below them does
        self._ignored: list[_Found] = []
        self._leading: list[_Found] = []  # of those that show, the excluded ones

    def all(self, pattern: str) -> Iterator[Block]:
        """All that `pattern` selects; raises where there is something wrong with it."""
        base, wild = split_wildcards(pattern)
        for path in matching(self._view, pattern) if wild else [base]:
            yield from self._match(path.rpartition(b"/")[2], path if wild else self._view.resolve(path))
        yield self._taken()

    def rows(self, items: Iterator[Head | Row]) -> Iterator[Block]:
        """Rows that are there already, each match with its folder's row first."""
        for item in items:
            if isinstance(item, Head):
                name, whole = item
                begun = True
                continue
            (path, kind, mode, _, _, _, _, link, device, _), where, stamp, inode, leads, _ = item
            if begun:
                self._open(name, where, whole=whole)
                begun = False
            rest = (inode, leads, *device) if inode or leads or device != NO_DEVICE else None
            self._add(b"%b\0%b %o %b %b\n" % (path, kind.encode(), mode, stamp, link), rest)
            if len(self._lines) > _AT_ONCE:
                yield self._taken()
        yield self._taken()

    def _open(self, name: bytes, where: bytes, *, whole: bool) -> None:
        self._marks[len(self._lines)] = (name, where, whole)
        self._lines.append(b"match %b\n" % name)

    def _add(self, line: bytes, rest: Rest | None) -> None:
        if rest is not None:
            self._marks[len(self._lines)] = rest
        self._lines.append(line)

    def _taken(self) -> Block:
        block = Block(self._lines, self._marks)
        self._lines, self._marks = [], {}
        return block

    def _match(self, name: bytes, path: bytes) -> Iterator[Block]:
        """All that is at `path`, called `name`; raises `OSError` where there is nothing to see."""
        view = self._view
        status = os.lstat(view.path(path))
        if stat.S_ISLNK(status.st_mode):
            path = view.resolve(path)
            status = os.lstat(view.path(path))
        full = view.path(path)
        found = self._line(b"", full, status)
        if found is None or (self._ignore is not None and view.entry(path) is None):
            raise FileNotFoundError(full)
        self._ignored, self._leading = [], []
        self._open(name, full, whole=not path)
        self._add(*found[1:])
        if stat.S_ISDIR(status.st_mode):
            yield from self._folder(full, b"", path + b"/" if path else b"")
        elif len(self._lines) > _AT_ONCE:
            yield self._taken()

    def _folder(self, folder: bytes, prefix: bytes, inside: bytes) -> Iterator[Block]:
        """What is in `folder`, siblings bytewise, a folder before what is in it.

        Its paths begin with `inside` in the view, and with `prefix` below the match.
        """
        plain = self._excluded is None
        lines = self._lines
        add = lines.append
        ways = [(self._kept(folder, inside), prefix, inside)]
        while ways:
            items, prefix, inside = ways[-1]
            for item in items:
                status = item.stat(follow_symlinks=False)
                mode = status.st_mode
                path = prefix + item.name
                kind = mode & 0o170000
                if kind == _FILE and plain and not self._ignored:
                    mtime, ctime, inode = status.st_mtime_ns, status.st_ctime_ns, status.st_ino
                    if status.st_nlink > 1:
                        self._marks[len(lines)] = (b"%d:%d" % (status.st_dev, inode), False, 0, 0)
                    numbers = (path, mode & 0o7777, status.st_size, mtime, ctime, inode)
                    add(b"%b\x000 %o %d %d %d %d \n" % numbers)
                elif (found := self._line(path, item.path, status)) is not None:
                    if kind == _DIR and self._ignores(inside + item.name):
                        self._ignored = [*_above(self._ignored, path), found]
                    else:
                        self._reveal(found, is_dir=kind == _DIR)
                if len(lines) > _AT_ONCE:
                    yield self._taken()
                    lines = self._lines
                    add = lines.append
                if kind == _DIR:
                    inside += item.name + b"/"
                    ways.append((self._kept(item.path, inside), path + b"/", inside))
                    break
            else:
                ways.pop()

    def _kept(self, folder: bytes, inside: bytes) -> Iterator[Item]:
        """What is in `folder`, but for what is ignored with all that is below it."""
        items = listed(folder, self._scratch)
        ignore, above = self._ignore, os.fsdecode(inside)
        if ignore is None or ignore.spares(above[:-1]):
            return items
        ignores, decode = ignore.ignores, os.fsdecode
        return (
            item
            for item in items
            if not ignores(path := above + decode(item.name))
            or (item.is_dir(follow_symlinks=False) and ignore.may_contain(path))
        )

    def _ignores(self, path: bytes) -> bool:
        return self._ignore is not None and self._ignore.ignores(os.fsdecode(path))

    def _reveal(self, found: _Found, *, is_dir: bool) -> None:
        """Add a path that is not ignored, behind the ignored folders that it is in, unless it is excluded."""
        if self._ignored:
            for known in _above(self._ignored, found[0]):
                self._show(known, is_dir=True)
            self._ignored.clear()
        self._show(found, is_dir=is_dir)

    def _show(self, found: _Found, *, is_dir: bool) -> None:
        """Add a path unless it is excluded."""
        path, line, rest = found
        if self._excluded is None:
            self._add(line, rest)
            return
        leading = _above(self._leading, path) if self._leading else []
        if not self._excluded.matches(os.fsdecode(path)):
            for _, known, _ in leading:
                self._add(known, (b"", True, 0, 0))
            self._add(line, rest)
            leading.clear()
        elif is_dir:
            leading.append(found)
        self._leading = leading

    def _line(self, relative: bytes, path: bytes, status: os.stat_result) -> _Found | None:
        """The line of a path, and what else its row needs; None for a socket."""
        mode = status.st_mode
        kind = mode & 0o170000
        size, link, rest = 0, b"", None
        if kind == _FILE:
            letter, size = _FILE_KIND, status.st_size
            if status.st_nlink > 1:
                rest = (b"%d:%d" % (status.st_dev, status.st_ino), False, 0, 0)
        elif kind == _LINK:
            letter, link = Kind.SYMLINK, os.readlink(path)
        elif kind in _KINDS:
            letter = _KINDS[kind]
            if letter is Kind.CHAR or letter is Kind.BLOCK:
                rest = (b"", False, os.major(status.st_rdev), os.minor(status.st_rdev))
        else:
            return None
        numbers = (mode & 0o7777, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return relative, b"%b\0%b %o %d %d %d %d %b\n" % (relative, letter.encode(), *numbers, link), rest


def _above(folders: list[_Found], path: bytes) -> list[_Found]:
    """Those of `folders` that `path` is in."""
    return [folder for folder in folders if path.startswith(folder[0] + b"/")]
