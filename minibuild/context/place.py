"""Where copied files land: a destination tree with its links, folders and owners, and the layer that results.

The rules are those of BuildKit's copy (fsutil copy.go): a folder's contents merge into the destination,
a file goes into an existing folder under its own name, missing parents are made, an existing symlink to
a folder is followed, a folder is never replaced by a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from minibuild.context.links import follow
from minibuild.context.placed import Placed
from minibuild.context.rows import Head, Match, Row
from minibuild.context.shelf import Shelf
from minibuild.context.way import Way
from minibuild.errors import DockerfileError
from minibuild.layers.entry import Entry, Kind
from minibuild.values import NamedTuple, maker

_CAPABILITY = b"security.capability"


def kept_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes that COPY and ADD keep: as in BuildKit, a file's capabilities alone."""
    return tuple(pair for pair in xattrs if pair[0] == _CAPABILITY)


class Owner(NamedTuple):
    uid: int
    gid: int


# quicker than calling the classes
_entry = maker(Entry)
_placed = maker(Placed)


class Lower(Protocol):
    """What lies below the new layer; None for a path that is not there."""

    def entry(self, path: bytes) -> Entry | None: ...


class Nothing:
    """An empty filesystem."""

    def entry(self, path: bytes) -> Entry | None:
        return Entry(b"", Kind.DIR, 0o755) if not path else None


class Placement:
    """The new layer while copies are applied to it.

    `owner` replaces the owner of everything copied or made; `chmod` is a function of (mode, is a folder).
    `folder_mode` is for parents that have to be made; `made_ns` the time they get. `scratch` gives an empty
    file's descriptor, for entries that are too many to be held.
    """

    def __init__(
        self,
        lower: Lower,
        *,
        owner: Owner | None = None,
        chmod: Callable[[int, bool], int] | None = None,
        folder_mode: int = 0o755,
        made_ns: int = 0,
        scratch: Callable[[], int] | None = None,
    ) -> None:
        self._lower = lower
        self._owner = owner
        self._chmod = chmod
        self._folder_mode = folder_mode & 0o777
        self._matches = 0
        self._made_ns = made_ns
        self._new = Shelf(scratch)
        self._scratch = scratch
        # of an archive: what all names of one file are to look like, by its `inode`
        self._files: Shelf | None = None
        self._links = 0
        self._way = Way(self.kind, partial(self._make_folder, mode=0o755, owner=Owner(0, 0)))

    def entry(self, path: bytes) -> Entry | None:
        placed = self._new.get(path)
        return placed.entry if placed is not None else self._lower.entry(path)

    def folder(self, path: bytes) -> Placed:
        """The folder at `path`: as it was copied or made, else as it is."""
        placed = self._new.get(path)
        if placed is None:
            entry = self._lower.entry(path)
            assert entry is not None and entry.kind is Kind.DIR, path
            placed = Placed(entry._replace(path=path))
        return placed

    def resolve(self, path: bytes) -> bytes:
        return follow(path, self._readlink)

    def kind(self, path: bytes) -> Kind | None:
        """Folder, symbolic link, or a file for whatever else is at `path`; None where nothing is."""
        kind = self._new.kind(path)
        if kind is not None:
            return kind
        entry = self._lower.entry(path)
        return None if entry is None else entry.kind

    def _readlink(self, path: bytes) -> bytes | None:
        if self.kind(path) is not Kind.SYMLINK:
            return None
        entry = self.entry(path)
        assert entry is not None
        return entry.link

    def make_folders(self, path: bytes, *, mode: int | None = None, owner: Owner | None = None) -> None:
        """Make `path` (links already followed) and its parents where they are missing."""
        mode = self._folder_mode if mode is None else mode
        owner = owner or self._owner or Owner(0, 0)
        parts = path.split(b"/") if path else []
        for depth in range(1, len(parts) + 1):
            self._make_folder(b"/".join(parts[:depth]), mode, owner)

    def _make_folder(self, path: bytes, mode: int, owner: Owner) -> None:
        kind = self.kind(path)
        if kind is None:
            made = Entry(path, Kind.DIR, mode, *owner, mtime_ns=self._made_ns)
            self._new.put(path, Placed(made))
        elif kind is not Kind.DIR:
            raise DockerfileError(
                f"/{os.fsdecode(path)} is not a directory",
                cure="Copy to another place, or remove the file in an earlier step.",
            )

    def copy(self, match: Match, dest: str) -> bytes:
        """Copy `match` to `dest` (absolute; a trailing slash means a folder); the path where it is now."""
        return self.copy_rows(Head(match.name, match.whole), match.rows, dest)

    def copy_rows(self, head: Head, rows: Iterable[Row], dest: str) -> bytes:
        """The same for a match whose rows come one by one."""
        rest = iter(rows)
        match = Match(head.name, [next(rest)], head.whole)
        target, path = self.land(match, dest)
        if match.is_dir:
            prefix = target + b"/" if target else b""
            for row in rest:
                self.set(row, prefix + row.entry.path)
        else:
            self.set(match.rows[0], path)
        return path

    def land(self, match: Match, dest: str) -> tuple[bytes, bytes]:
        """Make the folders that `match` needs; `dest` with links followed, and where the match goes."""
        self._matches += 1
        target = self.prepare(dest)
        if match.is_dir:
            self._merge(match, target)
            return target, target
        if self.is_folder(target):
            return target, target + b"/" + match.name if target else match.name
        self.make_folders(target.rpartition(b"/")[0])
        return target, target

    def is_folder(self, path: bytes) -> bool:
        return self.kind(path) is Kind.DIR

    def prepare(self, dest: str) -> bytes:
        """Make what `dest` requires to exist; its path with all links followed."""
        written = os.fsencode(dest)
        folder = written if written.endswith(b"/") else written.rpartition(b"/")[0]
        self.make_folders(self.resolve(folder))
        return self.resolve(written)

    def _merge(self, match: Match, target: bytes) -> None:
        """Have the folder `match` at `target`, without what is in it."""
        root = match.rows[0].entry
        existing = self.entry(target)
        if existing is not None and existing.kind is not Kind.DIR:
            raise DockerfileError(
                f"cannot copy to non-directory: /{os.fsdecode(target)}",
                cure="Copy to a folder or a new path.",
            )
        self.make_folders(target)
        made = self.entry(target)
        if made is not None:
            mtime_ns = self._made_ns if match.whole else root.mtime_ns
            self._new.put(target, Placed(made._replace(path=target, mtime_ns=mtime_ns)))

    def set(self, row: Row, target: bytes) -> None:
        """Copy one row to the path `target`."""
        self._new.put(target, self.at(row, target))

    def at(
        self,
        row: Row,
        target: bytes,
        *,
        free: bool = False,
        known: Entry | None = None,
        match: int | None = None,
    ) -> Placed:
        """What copying `row` to the path `target` makes of it.

        `known` is there; or `free` says that nothing is. `match` is the number of its match, not the last.
        """
        existing = known
        if known is None and not free:
            existing = self.entry(target)
        if existing is not None:
            is_dir = row.entry.kind is Kind.DIR
            if is_dir and existing.kind is not Kind.DIR:
                raise DockerfileError(f"cannot copy to non-directory: /{os.fsdecode(target)}")
            if existing.kind is Kind.DIR and not is_dir:
                raise DockerfileError(f"cannot replace to directory /{os.fsdecode(target)} with file")
            if row.leads:
                return Placed(existing._replace(path=target, mode=row.entry.mode))
        # Names of one file stay names of one file within a match only.
        inode = b"%d/%b" % (match or self._matches, row.inode) if row.inode else b""
        return _placed((self._dressed(row.entry, target), row.where, None, inode, row.stamp, False))

    def put(
        self,
        entry: Entry,
        base: bytes,
        *,
        where: bytes = b"",
        data: bytes | int | None = None,
        inode: bytes = b"",
    ) -> None:
        """Set `entry` below `base` as an archive does.

        Links lead nowhere else, whatever is there gives way, folders merge, missing parents are root's.
        """
        parent, _, name = entry.path.rpartition(b"/")
        folder = self._folder(base, parent)
        path = folder + b"/" + name if folder else name
        existing = self.kind(path)
        if existing is not None and (existing is not Kind.DIR or entry.kind is not Kind.DIR):
            self._way.leave()  # it may have been on it
            if existing is Kind.DIR:
                self._new.remove_below(path)
        if self._owner is not None:
            entry = entry._replace(uid=self._owner.uid, gid=self._owner.gid)
        self._new.put(path, Placed(entry._replace(path=path), where, data, inode, spooled=bool(where)))

    def put_link(self, entry: Entry, base: bytes, content: Callable[[bytes], bytes]) -> None:
        """Set a hard link of an archive; all names of the file get its metadata.

        `content` fetches a file from below the new layer and says where it is.
        """
        target = self._name_below(base, entry.link)
        placed = self._new.get(target)
        if placed is None:
            lower = self._lower.entry(target)
            if lower is None or lower.kind is Kind.DIR:
                what = "which is not there" if lower is None else "a directory"
                raise DockerfileError(
                    f"the archive's hard link {os.fsdecode(entry.path)} leads to {os.fsdecode(entry.link)}, "
                    + what,
                    cure="Write the archive again.",
                )
            where = content(target) if lower.kind is Kind.FILE else b""
            placed = Placed(lower._replace(path=target), where, spooled=bool(where))
        inode = placed.inode
        if not inode:
            self._links += 1
            inode = b"archive/%d" % self._links
            self._new.put(target, placed._replace(inode=inode))
        shown = placed.entry._replace(uid=entry.uid, gid=entry.gid)
        if shown.kind is not Kind.SYMLINK:
            shown = shown._replace(mode=entry.mode, mtime_ns=entry.mtime_ns)
        self.put(shown._replace(path=entry.path), base, where=placed.where, data=placed.data, inode=inode)
        if self._owner is not None:
            shown = shown._replace(uid=self._owner.uid, gid=self._owner.gid)
        if self._files is None:
            self._files = Shelf(self._scratch)
        self._files.put(inode, Placed(shown))

    def _name_below(self, base: bytes, path: bytes) -> bytes:
        """`path` as found by someone whose root is `base`; a link at its end is not followed."""
        parent, _, name = path.rpartition(b"/")
        folder = self._below(base, parent)
        return folder + b"/" + name if folder else name

    def _below(self, base: bytes, path: bytes) -> bytes:
        """The folder `path` as found by someone whose root is `base`."""
        prefix = base + b"/" if base else b""
        folder = follow(path, lambda link: self._readlink(prefix + link))
        return prefix + folder if folder else base

    def _folder(self, base: bytes, path: bytes) -> bytes:
        """The same, made where it is missing."""
        if not self._way.begins_at(base):
            self.make_folders(base, mode=0o755, owner=Owner(0, 0))
            self._way.begin(base)
        folder = self._way.to(path)
        if folder is None:
            folder = self._below(base, path)
            self.make_folders(folder, mode=0o755, owner=Owner(0, 0))
            self._way.on(path, folder)
        return folder

    def put_file(
        self, name: str, dest: str, entry: Entry, *, where: bytes = b"", data: bytes | int | None = None
    ) -> None:
        """Copy one file that comes from no view (a download, a here-document) to `dest`."""
        target = self.prepare(dest)
        if self.is_folder(target):
            target = target + b"/" + os.fsencode(name) if target else os.fsencode(name)
        self._new.put(target, Placed(self._dressed(entry, target), where, data, spooled=bool(where)))

    def _dressed(self, entry: Entry, path: bytes) -> Entry:
        """`entry` as it is copied to `path`."""
        _path, kind, mode, uid, gid, size, mtime, link, device, xattrs = entry
        if xattrs:
            xattrs = kept_xattrs(xattrs)
        if self._owner is not None:
            uid, gid = self._owner
        if self._chmod is not None and kind is not Kind.SYMLINK:
            mode = self._chmod(mode, kind is Kind.DIR)
        return _entry((path, kind, mode, uid, gid, size, mtime, link, device, xattrs))

    def finish(self) -> Iterator[Placed]:
        """The layer's entries: parents first, siblings bytewise, existing parents as they were.

        It is let go of as they come: nothing can be placed any more.
        """
        self._drop_untouched()
        for path in list(self._new):
            self._add_parents(path)
        self._new.remove(b"")
        return _linked(self._taken())

    def _taken(self) -> Iterator[Placed]:
        paths = sorted(self._new, key=_tree_order, reverse=True)
        while paths:
            path = paths.pop()
            placed = self._new.get(path)
            assert placed is not None
            self._new.remove(path)
            latest = self._files.get(placed.inode) if self._files is not None and placed.inode else None
            yield placed if latest is None else placed._replace(entry=latest.entry._replace(path=path))

    def _drop_untouched(self) -> None:
        """Forget folders of which only the time would change, as BuildKit sees no change in that."""
        needed: set[bytes] = set()
        folders: list[bytes] = []
        for path in self._new:
            if self._new.kind(path) is Kind.DIR:
                folders.append(path)
            else:
                needed.add(path.rpartition(b"/")[0])
        for path in sorted(folders, reverse=True):
            if path not in needed and self.untouched(self.folder(path).entry):
                self._new.remove(path)
            else:
                needed.add(path.rpartition(b"/")[0])

    def untouched(self, entry: Entry) -> bool:
        """Whether it is a folder that is there already, but for its time."""
        if entry.kind is not Kind.DIR:
            return False
        lower = self._lower.entry(entry.path)
        return lower is not None and lower._replace(path=entry.path, mtime_ns=entry.mtime_ns) == entry

    def covers(self, path: bytes) -> bool:
        """Whether there is something at `path` below the new layer."""
        return self._lower.entry(path) is not None

    def _add_parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        while parent and parent not in self._new:
            self._new.put(parent, self.folder(parent))
            parent = parent.rpartition(b"/")[0]


def _tree_order(path: bytes) -> bytes:
    return path.replace(b"/", b"\0")


def _linked(ordered: Iterable[Placed]) -> Iterator[Placed]:
    """Turn further names of one file into hard links to the first."""
    first: dict[bytes, bytes] = {}
    for placed in ordered:
        if not placed.inode:
            yield placed
            continue
        target = first.setdefault(placed.inode, placed.entry.path)
        if target == placed.entry.path:
            yield placed
        else:
            yield Placed(placed.entry._replace(kind=Kind.HARDLINK, link=target, size=0))
