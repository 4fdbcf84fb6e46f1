"""What one open store holds while it works.

    running-v1/<id>.lock    flock'd for as long as the store is open; its id is never used again
    running-v1/<id>/        t<n> unfinished files, w<n> workspaces, leases and lease-<n> names kept from gc
    running-v1/.gate        shared by whoever adds a lease, exclusive for each batch gc deletes
    running-v1/.gc          exclusive for a whole gc; who cannot share it empties no lease file

A killed process leaves its folder behind, unlocked. The next session to start removes the unfinished files of
such folders; workspaces may hold files that only a sandbox can delete and wait for `Store.clean`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from minibuild_store.errors import store_error
from minibuild_store.files import Remove, remove_tree, unlink_quietly, write_all
from minibuild_store.layout import GATE, GC
from minibuild_store.lock import Gate, is_at, release, take, try_flock

LEASES = "lease"  # how the name of every lease file begins
_LOCK = ".lock"


class Session:
    """Made with the store, on disk from the first write on; safe to use from several threads.

    A forked child that uses its parent's store gets a folder and a lock of its own.
    """

    def __init__(self, root: str, running: str, *, durable: bool) -> None:
        self.root = root
        self.durable = durable
        self._running = running
        self._mutex = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._folder = ""
        self._lock_fd = -1
        self._lease_fd = -1
        self._idle: list[int] = []  # lease files between two leases
        self._held: set[str] = set()
        self._numbers = itertools.count()
        self.gate = Gate(f"{self._running}/{GATE}")

    def _forget_parent(self) -> None:
        # closing a copy of a descriptor leaves the parent's lock in force; keeping it would prolong that lock
        self.gate.close()
        for fd in (self._lock_fd, self._lease_fd, *self._idle):
            if fd >= 0:
                os.close(fd)
        self._reset()

    def folder(self) -> str:
        """The folder of this session, made now if this is the first write."""
        if self._folder and self._pid == os.getpid():
            return self._folder
        with self._mutex:
            if self._pid != os.getpid():
                self._forget_parent()
            if not self._folder:
                try:
                    self._start()
                except OSError as error:
                    raise store_error(error, self.root) from error
            return self._folder

    def _start(self) -> None:
        reap(self._running, None)
        while True:
            base = f"{self._running}/{os.getpid()}-{os.urandom(6).hex()}"
            fd = os.open(base + _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if not is_at(fd, base + _LOCK):
                    os.close(fd)  # taken for a dead session's between the two calls
                    continue
                os.mkdir(base, 0o700)
            except OSError:
                release(fd, base + _LOCK)
                raise
            self._lock_fd, self._folder = fd, base
            return

    def new_name(self, kind: str) -> str:
        """A path in the session folder that nothing has had before."""
        return f"{self.folder()}/{kind}{next(self._numbers)}"

    def new_file(self) -> tuple[int, str]:
        """A fresh unfinished file: descriptor and path."""
        path = self.new_name("t")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path

    def hold(self, name: str) -> None:
        """Keep `name` from gc until this session ends."""
        folder = self.folder()
        if name in self._held:
            return
        with self._mutex:
            if self._lease_fd < 0:
                self._lease_fd = open_leases(f"{folder}/{LEASES}s")
        self.add_lease(self._lease_fd, (name,))
        self._held.add(name)

    def add_lease(self, fd: int, names: tuple[str, ...]) -> None:
        """Append `names` to an open lease file; gc then has deleted them before, or sees them."""
        # the newline before ends a line cut short by a disk that filled
        text = "".join(f"\n{name}\n" for name in names).encode("utf-8", "surrogatepass")
        try:
            with self.gate:
                write_all(fd, text)
        except OSError as error:
            raise store_error(error, self.root) from error

    def take_leases(self) -> tuple[int, str]:
        """A lease file to append to, for one `Lease` at a time, and the folder it is in."""
        folder = self.folder()
        with self._mutex:
            if self._idle:
                return self._idle.pop(), folder
        return open_leases(self.new_name(f"{LEASES}-")), folder

    def give_leases(self, fd: int, folder: str) -> None:
        """End the lease whose file is `fd` in `folder`.

        While a gc runs it may still have to see the names; they go when the file is given back another time.
        """
        if folder != self._folder:
            os.close(fd)  # the store was closed, and this lease with it
            return
        guard = self._gc_absent()
        if guard is not None:
            os.ftruncate(fd, 0)
            os.close(guard)
        with self._mutex:
            self._idle.append(fd)

    def _gc_absent(self) -> int | None:
        return take(f"{self._running}/{GC}", shared=True)

    def close(self) -> None:
        """End the session: its leases and unfinished files go; workspaces still there wait for `clean`."""
        if self._pid != os.getpid() or not self._folder:
            self.gate.close()
            return
        folder, self._folder = self._folder, ""
        self.gate.close()
        for fd in (self._lease_fd, *self._idle):
            if fd >= 0:
                os.close(fd)
        try:
            guard = self._gc_absent()
        except OSError:
            guard = None
        if guard is None:
            os.close(self._lock_fd)  # a gc is reading our leases; we are reaped after it
        else:
            _remove_session(folder, self._lock_fd, None)
            os.close(guard)
        self._reset()

    def __del__(self) -> None:
        self.close()


def open_leases(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def reap(running: str, remove: Remove | None) -> list[Path]:
    """Remove what dead sessions left; the workspaces too when `remove` is given. Returns what stayed behind.

    Does nothing while a gc runs.
    """
    guard = take(f"{running}/{GC}", shared=True)
    if guard is None:
        return []
    try:
        return reap_guarded(running, remove)
    finally:
        os.close(guard)


def reap_guarded(running: str, remove: Remove | None) -> list[Path]:
    """`reap` for a caller that holds the gc lock."""
    behind = []
    for folder, fd in _dead(running):
        behind += _remove_session(folder, fd, remove)
    return behind


def lease_files(running: str) -> Iterator[tuple[str, str]]:
    """Session folder and name of every lease file, of the living and the dead."""
    for session in os.listdir(running):
        if not session.endswith(_LOCK) and not session.startswith("."):
            folder = f"{running}/{session}"
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                continue
            for name in names:
                if name.startswith(LEASES):
                    yield folder, name


def dead_sessions(running: str) -> set[str]:
    """Folders of the sessions whose process is gone."""
    dead = set()
    for folder, fd in _dead(running):
        dead.add(folder)
        os.close(fd)
    return dead


def any_alive(running: str) -> bool:
    """Does any process, this one included, have an open session here?"""
    dead = dead_sessions(running)
    names = [name for name in os.listdir(running) if name.endswith(_LOCK)]
    return any(f"{running}/{name}".removesuffix(_LOCK) not in dead for name in names)


def _dead(running: str) -> Iterator[tuple[str, int]]:
    """Session folders nobody holds, each with its lock, taken, to be closed by the caller."""
    for name in os.listdir(running):
        if not name.endswith(_LOCK):
            continue
        path = f"{running}/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        if try_flock(fd) and is_at(fd, path):
            yield path.removesuffix(_LOCK), fd
        else:
            os.close(fd)


def _remove_session(folder: str, lock_fd: int, remove: Remove | None) -> list[Path]:
    """Empty a session folder whose lock `lock_fd` holds; the folder goes too if nothing is left in it."""
    behind = []
    try:
        with os.scandir(folder) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:
        found = []
    for path, is_folder in found:
        if not is_folder:
            unlink_quietly(path)
        elif remove is None or not _removed(Path(path), remove):
            behind.append(Path(path))
    try:
        if not behind:
            if os.path.isdir(folder):
                os.rmdir(folder)
            os.unlink(folder + _LOCK)
    except OSError:
        pass  # another time
    finally:
        os.close(lock_fd)
    return behind


def _removed(path: Path, remove: Remove) -> bool:
    try:
        remove(path)
    except OSError:
        return False
    return not os.path.lexists(path)


class Workspace:
    """A private temporary folder, removed when its `with` block ends.

    What `remove` cannot delete then stays until `Store.clean` is given one that can.
    """

    __slots__ = ("_path", "_remove", "_session")

    def __init__(self, session: Session, remove: Remove | None) -> None:
        self._session = session
        self._remove = remove or remove_tree
        self._path: Path | None = None

    def __enter__(self) -> Path:
        """Make the folder (mode 0700); raises `StoreFull`, `StoreUnusable`."""
        path = self._session.new_name("w")
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            raise store_error(error, self._session.root) from error
        self._path = Path(path)
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._path is not None and os.path.lexists(self._path):
            _removed(self._path, self._remove)
        self._path = None


class Lease:
    """Names kept from gc until the `with` block ends or the process dies."""

    __slots__ = ("_fd", "_folder", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = ""
        self._fd = -1

    def __enter__(self) -> Lease:
        try:
            self._fd, self._folder = self._session.take_leases()
        except OSError as error:
            raise store_error(error, self._session.root) from error
        return self

    def add(self, *names: str) -> None:
        """Keep the blobs of these digests and the snapshots of these names.

        What is present after `add` returns stays; so add first, look second.
        """
        if any("\n" in name for name in names):
            raise ValueError("a name to lease is one line")
        self._session.add_lease(self._fd, names)

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        self._session.give_leases(fd, self._folder)
