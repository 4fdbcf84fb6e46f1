"""Where copied files land: a destination tree with its links, folders and owners, and the layer that results.

The rules are those of BuildKit's copy (fsutil copy.go): a folder's contents merge into the destination,
a file goes into an existing folder under its own name, missing parents are made, an existing symlink to
a folder is followed, a folder is never replaced by a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

from minibuild.context.links import follow
from minibuild.context.rows import Match, Row
from minibuild.errors import DockerfileError
from minibuild.layers.entry import Entry, Kind
from minibuild.values import NamedTuple, maker

Content = bytes | None

_CAPABILITY = b"security.capability"


def kept_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes that COPY and ADD keep: as in BuildKit, a file's capabilities alone."""
    return tuple(pair for pair in xattrs if pair[0] == _CAPABILITY)


class Owner(NamedTuple):
    uid: int
    gid: int


class Placed(NamedTuple):
    """An entry of the new layer. `where` names its content as the row did; `data` is content held inline.

    `spooled` says that `where` is a file of our own. Entries of one non-empty `inode` are names of one file.
    """

    entry: Entry
    where: bytes = b""
    data: bytes | None = None
    inode: bytes = b""
    stamp: bytes = b""
    spooled: bool = False


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
    `folder_mode` is for parents that have to be made; `made_ns` the time they get.
    """

    def __init__(
        self,
        lower: Lower,
        *,
        owner: Owner | None = None,
        chmod: Callable[[int, bool], int] | None = None,
        folder_mode: int = 0o755,
        made_ns: int = 0,
    ) -> None:
        self._lower = lower
        self._owner = owner
        self._chmod = chmod
        self._folder_mode = folder_mode & 0o777
        self._matches = 0
        self._made_ns = made_ns
        self._new: dict[bytes, Placed] = {}

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

    def _readlink(self, path: bytes) -> bytes | None:
        entry = self.entry(path)
        return entry.link if entry is not None and entry.kind is Kind.SYMLINK else None

    def make_folders(self, path: bytes, *, mode: int | None = None, owner: Owner | None = None) -> None:
        """Make `path` (links already followed) and its parents where they are missing."""
        parts = path.split(b"/") if path else []
        owner = owner or self._owner or Owner(0, 0)
        for depth in range(1, len(parts) + 1):
            folder = b"/".join(parts[:depth])
            entry = self.entry(folder)
            if entry is None:
                made = Entry(folder, Kind.DIR, self._folder_mode if mode is None else mode, *owner)
                self._new[folder] = Placed(made._replace(mtime_ns=self._made_ns))
            elif entry.kind is not Kind.DIR:
                raise DockerfileError(
                    f"/{os.fsdecode(folder)} is not a directory",
                    cure="Copy to another place, or remove the file in an earlier step.",
                )

    def copy(self, match: Match, dest: str) -> bytes:
        """Copy `match` to `dest` (absolute; a trailing slash means a folder); the path where it is now."""
        target, path = self.land(match, dest)
        if match.is_dir:
            prefix = target + b"/" if target else b""
            for row in match.rows[1:]:
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
        existing = self.entry(path)
        return existing is not None and existing.kind is Kind.DIR

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
            self._new[target] = Placed(made._replace(path=target, mtime_ns=mtime_ns))

    def set(self, row: Row, target: bytes) -> None:
        """Copy one row to the path `target`."""
        self._new[target] = self.at(row, target)

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
        self, entry: Entry, base: bytes, *, where: bytes = b"", data: bytes | None = None, inode: bytes = b""
    ) -> None:
        """Set `entry` below `base` as an archive does.

        Links lead nowhere else, whatever is there gives way, folders merge, missing parents are root's.
        """
        path = self._below(base, entry.path)
        self.make_folders(path.rpartition(b"/")[0], mode=0o755, owner=Owner(0, 0))
        existing = self.entry(path)
        if existing is not None and existing.kind is Kind.DIR and entry.kind is not Kind.DIR:
            self._forget(path)
        if self._owner is not None:
            entry = entry._replace(uid=self._owner.uid, gid=self._owner.gid)
        self._new[path] = Placed(entry._replace(path=path), where, data, inode, spooled=bool(where))

    def put_link(self, entry: Entry, base: bytes, content: Callable[[bytes], bytes]) -> None:
        """Set a hard link of an archive; all names of the file get its metadata.

        `content` fetches a file from below the new layer and says where it is.
        """
        target = self._below(base, entry.link)
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
        inode = placed.inode or b"archive/" + target
        shown = placed.entry._replace(uid=entry.uid, gid=entry.gid)
        if shown.kind is not Kind.SYMLINK:
            shown = shown._replace(mode=entry.mode, mtime_ns=entry.mtime_ns)
        self._new[target] = placed._replace(inode=inode)
        self.put(shown._replace(path=entry.path), base, where=placed.where, data=placed.data, inode=inode)
        latest = self._new[self._below(base, entry.path)].entry
        for path, other in self._new.items():
            if other.inode == inode:
                self._new[path] = other._replace(entry=latest._replace(path=path))

    def _below(self, base: bytes, path: bytes) -> bytes:
        """`path` as found by someone whose root is `base`; a link at its end is not followed."""
        prefix = base + b"/" if base else b""
        parent, _, name = path.rpartition(b"/")
        folder = follow(parent, lambda link: self._readlink(prefix + link))
        return prefix + (folder + b"/" + name if folder else name)

    def _forget(self, path: bytes) -> None:
        prefix = path + b"/"
        for below in [known for known in self._new if known.startswith(prefix)]:
            del self._new[below]

    def put_file(
        self, name: str, dest: str, entry: Entry, *, where: bytes = b"", data: bytes | None = None
    ) -> None:
        """Copy one file that comes from no view (a download, a here-document) to `dest`."""
        target = self.prepare(dest)
        existing = self.entry(target)
        if existing is not None and existing.kind is Kind.DIR:
            target = target + b"/" + os.fsencode(name) if target else os.fsencode(name)
        self._new[target] = Placed(self._dressed(entry, target), where, data, spooled=bool(where))

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

    def finish(self) -> list[Placed]:
        """The layer's entries: parents first, siblings bytewise, existing parents as they were."""
        self._drop_untouched()
        for path in list(self._new):
            self._add_parents(path)
        self._new.pop(b"", None)
        ordered = sorted(self._new.values(), key=_tree_order)
        return list(_linked(ordered))

    def _drop_untouched(self) -> None:
        """Forget folders of which only the time would change, as BuildKit sees no change in that."""
        needed: set[bytes] = set()
        for path in sorted(self._new, reverse=True):
            if path not in needed and self.untouched(self._new[path].entry):
                del self._new[path]
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
            self._new[parent] = self.folder(parent)
            parent = parent.rpartition(b"/")[0]


def _tree_order(placed: Placed) -> bytes:
    return placed.entry.path.replace(b"/", b"\0")


def _linked(ordered: Iterable[Placed]) -> Iterable[Placed]:
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
