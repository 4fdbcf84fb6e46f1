"""Where copied files land: a destination tree with its links, folders and owners, and the layer that results.

The rules are those of BuildKit's copy (fsutil copy.go): a folder's contents merge into the destination,
a file goes into an existing folder under its own name, missing parents are made, an existing symlink to
a folder is followed, a folder is never replaced by a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from minibuild.context.links import follow
from minibuild.context.rows import Match, Row
from minibuild.errors import DockerfileError
from minibuild.layers.entry import Entry, Kind

Content = bytes | None


class Owner(NamedTuple):
    uid: int
    gid: int


class Placed(NamedTuple):
    """An entry of the new layer. `where` names its content as the row did; `data` is content held inline."""

    entry: Entry
    where: bytes = b""
    data: bytes | None = None
    inode: bytes = b""
    stamp: bytes = b""


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

    def resolve(self, path: bytes) -> bytes:
        return follow(path, self._readlink)

    def _readlink(self, path: bytes) -> bytes | None:
        entry = self.entry(path)
        return entry.link if entry is not None and entry.kind is Kind.SYMLINK else None

    def make_folders(self, path: bytes, *, mode: int | None = None) -> None:
        """Make `path` (links already followed) and its parents where they are missing."""
        parts = path.split(b"/") if path else []
        for depth in range(1, len(parts) + 1):
            folder = b"/".join(parts[:depth])
            entry = self.entry(folder)
            if entry is None:
                owner = self._owner or Owner(0, 0)
                made = Entry(folder, Kind.DIR, self._folder_mode if mode is None else mode, *owner)
                self._new[folder] = Placed(made._replace(mtime_ns=self._made_ns))
            elif entry.kind is not Kind.DIR:
                raise DockerfileError(
                    f"/{os.fsdecode(folder)} is not a directory",
                    cure="Copy to another place, or remove the file in an earlier step.",
                )

    def copy(self, match: Match, dest: str) -> None:
        """Copy `match` to `dest` (absolute; a trailing slash means a folder)."""
        self._matches += 1
        target = self._prepare(dest)
        if match.is_dir:
            self._copy_folder(match, target)
            return
        existing = self.entry(target)
        if existing is not None and existing.kind is Kind.DIR:
            target = target + b"/" + match.name if target else match.name
        else:
            self.make_folders(target.rpartition(b"/")[0])
        self._copy_row(match.rows[0], target)

    def _prepare(self, dest: str) -> bytes:
        """Make what `dest` requires to exist; its path with all links followed."""
        written = os.fsencode(dest)
        folder = written if written.endswith(b"/") else written.rpartition(b"/")[0]
        self.make_folders(self.resolve(folder))
        return self.resolve(written)

    def _copy_folder(self, match: Match, target: bytes) -> None:
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
        prefix = target + b"/" if target else b""
        for row in match.rows[1:]:
            self._copy_row(row, prefix + row.entry.path)

    def _copy_row(self, row: Row, target: bytes) -> None:
        existing = self.entry(target)
        is_dir = row.entry.kind is Kind.DIR
        if existing is not None:
            if is_dir and existing.kind is not Kind.DIR:
                raise DockerfileError(f"cannot copy to non-directory: /{os.fsdecode(target)}")
            if existing.kind is Kind.DIR and not is_dir:
                raise DockerfileError(f"cannot replace to directory /{os.fsdecode(target)} with file")
        # Names of one file stay names of one file within a match only.
        inode = b"%d/%b" % (self._matches, row.inode) if row.inode else b""
        self._new[target] = Placed(
            self._dressed(row.entry)._replace(path=target), row.where, None, inode, row.stamp
        )

    def put(self, entry: Entry, *, where: bytes = b"", data: bytes | None = None) -> None:
        """Set `entry.path` as an archive does: whatever is there gives way, folders merge, parents appear."""
        parent, _, name = entry.path.rpartition(b"/")
        folder = self.resolve(parent)
        self.make_folders(folder)
        path = folder + b"/" + name if folder else name
        existing = self.entry(path)
        if existing is not None and existing.kind is Kind.DIR and entry.kind is not Kind.DIR:
            self._forget(path)
        self._new[path] = Placed(self._dressed(entry)._replace(path=path), where, data)

    def _forget(self, path: bytes) -> None:
        prefix = path + b"/"
        for below in [known for known in self._new if known.startswith(prefix)]:
            del self._new[below]

    def put_file(
        self, name: str, dest: str, entry: Entry, *, where: bytes = b"", data: bytes | None = None
    ) -> None:
        """Copy one file that comes from no view (a download, a here-document) to `dest`."""
        target = self._prepare(dest)
        existing = self.entry(target)
        if existing is not None and existing.kind is Kind.DIR:
            target = target + b"/" + os.fsencode(name) if target else os.fsencode(name)
        self._new[target] = Placed(self._dressed(entry)._replace(path=target), where, data)

    def _dressed(self, entry: Entry) -> Entry:
        if self._owner is not None:
            entry = entry._replace(uid=self._owner.uid, gid=self._owner.gid)
        if self._chmod is not None and entry.kind is not Kind.SYMLINK:
            entry = entry._replace(mode=self._chmod(entry.mode, entry.kind is Kind.DIR))
        return entry

    def finish(self) -> list[Placed]:
        """The layer's entries: parents first, siblings bytewise, existing parents as they were."""
        for path in list(self._new):
            self._add_parents(path)
        self._new.pop(b"", None)
        ordered = sorted(self._new.values(), key=_tree_order)
        return list(_linked(ordered))

    def _add_parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        while parent and parent not in self._new:
            entry = self._lower.entry(parent)
            assert entry is not None and entry.kind is Kind.DIR, parent
            self._new[parent] = Placed(entry._replace(path=parent))
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
