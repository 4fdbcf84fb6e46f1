"""One folder that holds all that builds keep: blobs, records, snapshots, caches.

Any number of processes and threads may use one store at once. A process killed at any instant loses the step
it was in; nothing needs repair, and what it held is free again.

Every file and folder comes into being under a temporary name and gets its own by rename, so a name never
stands for half a thing as long as the machine runs. A power cut may still take the bytes of a file whose
name it keeps. By default that is met by checking instead of flushing: records carry a checksum and count as
absent when it fails, blobs are compared by size wherever they are looked up and by digest wherever they are
read, and the first open after a boot drops the snapshots of the last minutes before it.

`durable=True` flushes each file and folder before going on. On ext4 over a virtual disk, medians of one
thread: a 200-byte record 57 µs, durable 594; a 1 KiB blob 82 µs, durable 443; a 1 MiB blob 1.8 ms, durable
2.8. A build puts hundreds of them, and all of it can be made again from its inputs, so the default is to
check. A snapshot has no cheaper flush than sync(2) of the whole machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.blobs import Blobs
from minibuild_store.errors import store_error
from minibuild_store.files import Remove, remove_tree, unlink_quietly
from minibuild_store.layout import BLOBS, CACHES, GC, LOCKS, PARTIALS, RECORDS, RUNNING, SNAPSHOTS, prepare
from minibuild_store.lock import Lock, Turns, remove_idle
from minibuild_store.records import Records
from minibuild_store.session import Lease, Session, Workspace, reap, reap_guarded
from minibuild_store.shorthash import sha256
from minibuild_store.snapshots import Snapshots, empty_trash, settle

if TYPE_CHECKING:
    from minibuild_store.gc import GcReport, Roots


class Store:
    """An open store; make one with `Store.open`, end it with `close` or a `with` block."""

    def __init__(self, root: Path, session: Session) -> None:
        text = session.root
        self.root = root
        self.caches = Path(text, CACHES)
        """Folder for cache mounts; gc leaves it alone."""
        self._session = session
        self.blobs = Blobs(f"{text}/{BLOBS}", f"{text}/{PARTIALS}", session)
        self.snapshots = Snapshots(f"{text}/{SNAPSHOTS}", session)
        self._records: dict[str, Records] = {}
        self._turns = Turns()

    @classmethod
    def open(cls, root: Path, *, durable: bool = False) -> Store:
        """Open the store at `root`, making it (mode 0700) if there is nothing.

        Raises `StoreUnusable` for a folder that is something else, of another format or not writable, and
        `StoreFull`. The cost does not depend on what the store holds.
        """
        text = os.path.abspath(root)
        prepare(text)
        if not durable:
            try:
                settle(f"{text}/{SNAPSHOTS}", f"{text}/{RUNNING}")
            except OSError as error:
                raise store_error(error, text) from error
        return cls(Path(text), Session(text, f"{text}/{RUNNING}", durable=durable))

    def records(self, kind: str) -> Records:
        """The records of one kind; `kind` is a short word and names a folder."""
        found = self._records.get(kind)
        if found is None:
            if not kind.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{kind!r} cannot name a kind of records")
            found = Records(f"{self._session.root}/{RECORDS}/{kind}", self._session)
            self._records[kind] = found
        return found

    def folder_times(self) -> tuple[int, ...]:
        """Times (ns), of which one moves whenever a blob, snapshot or cache mount comes or goes.

        What is written within a cache mount does not show.
        """
        root = self._session.root
        folders = (f"{root}/{BLOBS}/sha256", f"{root}/{SNAPSHOTS}", f"{root}/{CACHES}")
        return tuple(os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0 for folder in folders)

    def lock(
        self,
        name: str,
        *,
        timeout: float | None = None,
        shared: bool = False,
        waiting: Callable[[], None] | None = None,
    ) -> Lock:
        """A lock on `name` for a `with` block, against other processes and other threads.

        Not reentrant. Waits `timeout` seconds (None: for ever), then raises `StoreBusy`. `waiting` is called
        about every 25 ms of the wait; what it raises ends the wait.
        """
        key = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        root = self._session.root
        path = f"{root}/{LOCKS}/{key}"
        return Lock(root, path, name, self._turns, timeout=timeout, shared=shared, waiting=waiting)

    def workspace(self, *, remove: Remove | None = None) -> Workspace:
        """A private temporary folder on the store's filesystem for a `with` block."""
        return Workspace(self._session, remove)

    def scratch(self) -> int:
        """An empty file without a name on the store's filesystem: its descriptor, for the caller to close."""
        try:
            fd, path = self._session.new_file()
            unlink_quietly(path)
        except OSError as error:
            raise store_error(error, self._session.root) from error
        return fd

    def lease(self) -> Lease:
        """Names to keep from gc for a `with` block, or until this process dies; see `Lease.add`."""
        return Lease(self._session)

    def clean(self, *, remove: Remove = remove_tree) -> list[Path]:
        """Delete what dead processes left, locks too; returns the folders that `remove` could not delete."""
        root = self._session.root
        try:
            left = reap(f"{root}/{RUNNING}", remove)
            remove_idle(f"{root}/{LOCKS}")
            return left + empty_trash(f"{root}/{SNAPSHOTS}", remove)
        except OSError as error:
            raise store_error(error, root) from error

    def gc(
        self,
        roots: Callable[[], Roots],
        *,
        dry_run: bool = False,
        remove: Remove = remove_tree,
        timeout: float | None = None,
    ) -> GcReport:
        """Delete what neither `roots` nor a running process keeps; with `dry_run` only say what.

        `roots` is called once, after the candidates are listed, and must read the store's records then: what
        was computed earlier could miss a build that ended in between. Builds go on meanwhile; another gc is
        waited for, `timeout` seconds at most (`StoreBusy`). Works on a full disk.
        """
        from minibuild_store.gc import Collector

        root = self._session.root
        path = f"{root}/{RUNNING}/{GC}"
        with Lock(root, path, "garbage collection", self._turns, timeout=timeout, keep=True):
            try:
                left = [] if dry_run else reap_guarded(f"{root}/{RUNNING}", remove)
                collector = Collector(root, dry_run=dry_run, remove=remove)
            except OSError as error:
                raise store_error(error, root) from error
            keep = roots()
            try:
                report = collector.sweep(keep)
            except OSError as error:
                raise store_error(error, root) from error
        # sessions that ended meanwhile have left themselves to us
        left += reap(f"{root}/{RUNNING}", None if dry_run else remove)
        return report._replace(left=(*dict.fromkeys(left), *report.left))

    def close(self) -> None:
        """End what this store holds: leases, unfinished files. It may be used again, and begins anew then."""
        self._session.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
