"""Deleting what nothing needs.

The caller says what is needed; what a running process committed or leased is kept besides. Nothing is lost
between the two because of the order:

1. dead sessions are removed; from here to the end no lease is forgotten (`Session.give_leases`);
2. candidates are listed: what comes later is no candidate;
3. `roots` is called: it sees all that was recorded by sessions that ended before 1;
4. each batch is deleted with the gate shut, after reading the leases again: who adds a lease either is seen
   or finds the thing gone when they look.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from minibuild_store.digest import Digest
from minibuild_store.files import Remove, tree_size, unlink_quietly
from minibuild_store.layout import BLOBS, GATE, LOCKS, PARTIALS, RECORDS, RUNNING, SNAPSHOTS
from minibuild_store.lock import is_at, remove_idle, try_flock
from minibuild_store.records import record_files, record_path
from minibuild_store.session import dead_sessions, lease_files
from minibuild_store.snapshots import empty_trash, to_trash
from minibuild_store.tuples import NamedTuple

_BATCH = 64


class Roots(NamedTuple):
    """What must stay. None for a part, or a kind of records not named, leaves all of it alone."""

    blobs: Iterable[str] | None = None
    snapshots: Iterable[str] | None = None
    records: Mapping[str, Iterable[str]] | None = None


class Removed(NamedTuple):
    """One thing deleted: `kind` is blob, partial, snapshot or record; `bytes` its size.

    A record is named by kind and file; its own name was hashed.
    """

    kind: str
    name: str
    bytes: int


class GcReport(NamedTuple):
    """What a gc deleted, or would have; `left` are folders that could not be deleted."""

    removed: tuple[Removed, ...]
    left: tuple[Path, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.removed)


class Collector:
    """One run over the store at `root`; made when the candidates are to be listed.

    The caller holds the gc lock and has removed dead sessions.
    """

    def __init__(self, root: str, *, dry_run: bool, remove: Remove) -> None:
        self._root = root
        self._dry_run = dry_run
        self._remove = remove
        # a dry run removes no dead sessions, so it passes over them
        running = f"{root}/{RUNNING}"
        self._leases = _Leases(running, dead_sessions(running) if dry_run else set())
        self._removed: list[Removed] = []
        self._left: list[Path] = []

        self._blobs = list(_blobs(f"{root}/{BLOBS}"))
        self._snapshots = self._listed(SNAPSHOTS)
        self._partials = self._listed(PARTIALS)
        self._records = {kind: _record_states(f"{root}/{RECORDS}/{kind}") for kind in self._listed(RECORDS)}

    def sweep(self, roots: Roots) -> GcReport:
        """Delete every candidate that neither `roots` nor a lease names."""
        if roots.blobs is not None:
            keep = frozenset(roots.blobs)
            self._sweep_blobs([item for item in self._blobs if item[0] not in keep])
            self._sweep_partials(keep)
        if roots.snapshots is not None:
            keep = frozenset(roots.snapshots)
            self._sweep_snapshots([name for name in self._snapshots if name not in keep])
        for kind, names in (roots.records or {}).items():
            if kind in self._records:
                self._sweep_records(kind, self._records[kind], names)
        if not self._dry_run:
            remove_idle(f"{self._root}/{LOCKS}")
        return GcReport(tuple(self._removed), tuple(self._left), self._dry_run)

    def _listed(self, part: str) -> list[str]:
        return [name for name in os.listdir(f"{self._root}/{part}") if not name.startswith(".")]

    def _gate(self) -> _ShutGate:
        return _ShutGate(f"{self._root}/{RUNNING}/{GATE}")

    def _sweep_blobs(self, doomed: list[tuple[Digest, str]]) -> None:
        for start in range(0, len(doomed), _BATCH):
            opened: list[int] = []
            with self._gate():
                leased = self._leases.read()
                for digest, path in doomed[start : start + _BATCH]:
                    if digest not in leased:
                        opened += self._unlink("blob", digest, path)
            for fd in opened:  # freeing the blocks of a large file takes time; not with the gate shut
                os.close(fd)

    def _unlink(self, kind: str, name: str, path: str) -> list[int]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if not self._dry_run:
                os.unlink(path)
        except FileNotFoundError:
            return []
        self._removed.append(Removed(kind, name, os.fstat(fd).st_size))
        return [fd]

    def _sweep_partials(self, keep: frozenset[str]) -> None:
        with self._gate():
            leased = self._leases.read()
        for name in self._partials:
            digest = name.replace("-", ":", 1)
            if digest in keep or digest in leased:
                continue
            path = f"{self._root}/{PARTIALS}/{name}"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            if try_flock(fd) and is_at(fd, path):
                self._removed.append(Removed("partial", digest, os.fstat(fd).st_size))
                if not self._dry_run:
                    unlink_quietly(path)
            os.close(fd)

    def _sweep_snapshots(self, doomed: list[str]) -> None:
        folder = f"{self._root}/{SNAPSHOTS}"
        for name in doomed:
            path = f"{folder}/{name}"
            size = tree_size(path)
            with self._gate():
                if name in self._leases.read():
                    continue
                try:
                    if not self._dry_run:
                        to_trash(folder, path)
                except FileNotFoundError:
                    continue
            self._removed.append(Removed("snapshot", name, size))
        if not self._dry_run:
            self._left += empty_trash(folder, self._remove)

    def _sweep_records(
        self, kind: str, states: dict[str, tuple[int, int, int]], names: Iterable[str]
    ) -> None:
        folder = f"{self._root}/{RECORDS}/{kind}"
        for name in names:
            states.pop(record_path(folder, name), None)
        doomed = list(states.items())
        for start in range(0, len(doomed), _BATCH):
            with self._gate():
                for path, (inode, changed, size) in doomed[start : start + _BATCH]:
                    try:
                        now = os.stat(path)
                        if (now.st_ino, now.st_ctime_ns) != (inode, changed):
                            continue  # put or touched since it was listed
                        if not self._dry_run:
                            os.unlink(path)
                    except FileNotFoundError:
                        continue
                    self._removed.append(Removed("record", f"{kind}/{path[len(folder) + 1 :]}", size))


class _ShutGate:
    """The exclusive side of `Gate`; its own descriptor, so that it excludes threads of this process too."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Leases:
    """All names leased by any session, live or ended since the gc began; reads only what was added."""

    def __init__(self, running: str, ignored: set[str]) -> None:
        self._running = running
        self._ignored = ignored
        self._names: set[str] = set()
        self._offsets: dict[str, int] = {}

    def read(self) -> set[str]:
        """All names leased; call it with the gate shut, so that none is being added."""
        for folder, name in lease_files(self._running):
            if folder not in self._ignored:
                self._read_file(f"{folder}/{name}")
        return self._names

    def _read_file(self, path: str) -> None:
        offset = self._offsets.get(path, 0)
        try:
            if os.stat(path).st_size == offset:
                return
            with open(path, "rb") as file:
                file.seek(offset)
                added = file.read()
        except FileNotFoundError:
            return
        self._offsets[path] = offset + len(added)
        self._names.update(added.decode("utf-8", "surrogatepass").split("\n"))


def _blobs(folder: str) -> Iterator[tuple[Digest, str]]:
    for algorithm in os.listdir(folder):
        for name in os.listdir(f"{folder}/{algorithm}"):
            yield Digest(f"{algorithm}:{name}"), f"{folder}/{algorithm}/{name}"


def _record_states(folder: str) -> dict[str, tuple[int, int, int]]:
    states = {}
    for path in record_files(folder):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        states[path] = status.st_ino, status.st_ctime_ns, status.st_size
    return states
