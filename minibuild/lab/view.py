"""One commit's files as a build context, as a clone of the repository would show them.

The rules of what a build sees are those of `FolderView`; here only the disk is another. Rows of folders that
did not change between commits are made once. A clone also has a ``.git`` folder, of which no two commits
have the same: it is there as one file that holds the commit's id, unless the context is without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from minibuild.context.digests import content_digest, hash_file
from minibuild.context.folder import FolderView
from minibuild.context.links import follow
from minibuild.context.rows import Row
from minibuild.context.select import held, split_wildcards
from minibuild.context.selection import Selected, Selection
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.engine.sources import ContextFiles
from minibuild.lab.history import Commit, History, Node
from minibuild.layers.entry import Entry, Kind

UNTIMED = -1
"""The time (ns) of what has that of its commit, so that rows can be shared between commits."""

_GIT = b".git"
_GIT_FILE = b".git/HEAD"
_MODES = {b"100644": 0o644, b"100664": 0o644, b"100755": 0o755}
_LINK = b"120000"
_MODULE = b"160000"  # a submodule: an empty folder, as in a clone that fetched none


class Snapshot:
    """The tree of one commit below `folder`; `git_folder` says whether a clone's ``.git`` is part of it."""

    def __init__(self, history: History, commit: Commit, folder: str = "", *, git_folder: bool) -> None:
        self.history = history
        self.commit = commit
        self.folder = folder
        self.git_folder = git_folder and not folder
        node = history.find(commit.tree, os.fsencode(folder))
        self.root = node.id if node is not None and node.is_folder else None
        """The id of the folder's tree, None where the commit has no such folder."""

    def file(self, path: str) -> bytes | None:
        """The regular file at `path`, links followed inside the folder; None where there is none."""
        place = follow(os.fsencode(path), self.readlink)
        return None if self.root is None else self.history.file(self.root, place)

    def readlink(self, path: bytes) -> bytes | None:
        node = self.find(path)
        return self.history.data(node.id) if node is not None and node.mode == _LINK else None

    def find(self, path: bytes) -> Node | None:
        return None if self.root is None else self.history.find(self.root, path)


Memo = dict[object, list[Row]]
"""Rows below a folder, by the folder's tree id, its path where that matters, and the ignore file."""


class GitView(FolderView):
    """The files of a `Snapshot`; `Row.where` of a file is its blob's id, or for ``.git`` its SHA-256."""

    def __init__(self, snapshot: Snapshot, ignore: IgnoreFile | None, memo: Memo) -> None:
        super().__init__("", ignore)
        self.snapshot = snapshot
        self.head = hashlib.sha256(snapshot.commit.id.encode()).hexdigest()
        self._history = snapshot.history
        self._memo = memo
        self._rules = ignore_text(self.ignore)
        self._history.digests[self.head.encode()] = self.head

    def _readlink(self, path: bytes) -> bytes | None:
        return self.snapshot.readlink(path)

    def _row(self, relative: bytes, path: bytes) -> Row | None:
        place = path[1:]
        if self.snapshot.git_folder and place in (_GIT, _GIT_FILE):
            return self._git_row(relative, place)
        node = self.snapshot.find(place)
        return None if node is None else self._row_of(relative, path, node)

    def _git_row(self, relative: bytes, place: bytes) -> Row:
        if place == _GIT:
            return Row(Entry(relative, Kind.DIR, 0o755, mtime_ns=UNTIMED), b"/.git")
        size = len(self.snapshot.commit.id)
        return Row(Entry(relative, Kind.FILE, 0o644, size=size, mtime_ns=UNTIMED), self.head.encode())

    def _row_of(self, relative: bytes, path: bytes, node: Node) -> Row:
        if node.is_folder or node.mode == _MODULE:
            return Row(Entry(relative, Kind.DIR, 0o755, mtime_ns=UNTIMED), path)
        if node.mode == _LINK:
            link = self._history.data(node.id)
            return Row(Entry(relative, Kind.SYMLINK, 0o777, mtime_ns=UNTIMED, link=link), path)
        size = self._history.blob(node.id).size
        return Row(
            Entry(relative, Kind.FILE, _MODES.get(node.mode, 0o644), size=size, mtime_ns=UNTIMED), node.id
        )

    def _listdir(self, path: bytes) -> list[bytes]:
        place = path[1:]
        if self.snapshot.git_folder and place == _GIT:
            return [b"HEAD"]
        node = self.snapshot.find(place)
        if node is None or not node.is_folder:
            return []
        names = list(self._history.tree(node.id))
        return [*names, _GIT] if self.snapshot.git_folder and not place else names

    def _walk_all(self, folder: bytes, prefix: bytes) -> Iterator[Row]:
        yield from self._remembered(folder, (prefix,), lambda: self._fresh(folder, prefix))

    def _fresh(self, folder: bytes, prefix: bytes) -> Iterator[Row]:
        for name in sorted(self._listdir(folder)):
            path = folder + b"/" + name
            row = self._row(prefix + name, path)
            assert row is not None
            yield row
            if row.entry.kind is Kind.DIR:
                yield from self._walk_all(path, prefix + name + b"/")

    def _known_below(self, ignore: IgnoreFile, base: bytes, prefix: bytes) -> list[Row]:
        full = b"/".join(part for part in (base, prefix.rstrip(b"/")) if part)
        details = (prefix, full, self._rules)
        return self._remembered(self.path(full), details, lambda: self._walk_visible(ignore, base, prefix))

    def _remembered(
        self, folder: bytes, details: tuple[bytes | str, ...], make: Callable[[], Iterator[Row]]
    ) -> list[Row]:
        place = folder.strip(b"/")
        node = self.snapshot.find(place)
        if node is None or (not place and self.snapshot.git_folder):
            return list(make())
        key = (node.id, *details)
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = list(make())
        return known


class GitFiles(ContextFiles):
    """The context of one commit; `bytes` adds up what was selected from it."""

    def __init__(self, view: GitView, digests: dict[object, tuple[str, int]]) -> None:
        self.view = view
        self.ignore = view.ignore
        self.root = Path(f"commit {view.snapshot.commit.id[:12]}")
        self.bytes = 0
        self._view = view
        self._ignore_text = ignore_text(view.ignore)
        self._known = digests

    on_disk = False

    def known_digest(self, selection: str, pattern: str) -> str | None:
        """The digest of a plain path, where it was taken of the very same tree before."""
        base, wild = split_wildcards(pattern)
        if wild:
            return None
        path = self._view.resolve(base)
        known = self._known.get(self._identity(selection, path))
        if known is None:
            return None
        self.bytes += known[1]
        return known[0]

    def _identity(self, selection: str, path: bytes) -> object:
        snapshot = self._view.snapshot
        node = snapshot.find(path)
        whole = snapshot.commit.id if snapshot.git_folder and (not path or path.startswith(_GIT)) else ""
        where = path if self._ignore_text else b""
        return node, whole, where, selection, self._ignore_text

    def survey(self, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> Selected:  # type: ignore[override]
        return Selection(lambda: self._view, pattern, exclude=exclude, parents=parents)

    def digest(self, selection: str, survey: Selected, *, modes: bool = True) -> str:
        matches = held(survey)
        # whatever has a row was looked at, so its digest is among those of the history
        found = content_digest(matches, self._view.snapshot.history.digests, modes=modes)
        size = sum(row.entry.size for match in matches for row in match.rows)
        self.bytes += size
        pattern = selection.partition("\n")[0]
        base, wild = split_wildcards(pattern)
        if not wild and len(matches) == 1:
            self._known[self._identity(selection, self._view.resolve(base))] = found, size
        return found

    def sha256(self, where: bytes) -> str:
        """The SHA-256 (hex) of what `Row.where` names; also of a file of a named context, by its path."""
        if where.startswith(b"/"):
            return hash_file(where, os.stat(where).st_size)
        return self._view.snapshot.history.digests[where]

    def data(self, where: bytes) -> bytes:
        """The bytes of what `Row.where` names."""
        if where == self._view.head.encode():
            return self._view.snapshot.commit.id.encode()
        if where.startswith(b"/"):
            return Path(os.fsdecode(where)).read_bytes()
        return self._view.snapshot.history.data(where)

    def save(self) -> None:
        """There is nothing to keep."""


def ignore_text(ignore: IgnoreFile | None) -> str:
    return "" if ignore is None else "\n".join(line.text for line in ignore.patterns)
