"""Locks between processes and between threads.

Each acquisition opens the file anew, so flock(2) excludes threads of one process as it does processes, and
the kernel releases what a killed process held. The last holder unlinks the file; whoever got a lock on an
unlinked file sees that its name is gone or another's, and begins again. Threads of one process wait for each
other in line (`Turns`), so that only the first of them has to look at the file now and then.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from minibuild_store.errors import StoreBusy, store_error
from minibuild_store.stopping import check

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.025


def try_flock(fd: int, *, shared: bool = False) -> bool:
    """Lock the open file `fd` at once or say False."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(fd: int, path: str) -> bool:
    """Is the open file `fd` still the one that `path` names?"""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return named.st_ino == opened.st_ino and named.st_dev == opened.st_dev


def take(path: str, *, shared: bool = False) -> int | None:
    """Open (creating it) and lock the file at `path`; its descriptor, or None while others hold it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_flock(fd, shared=shared):
            os.close(fd)
            return None
        if is_at(fd, path):
            return fd
        os.close(fd)


def take_waiting(
    path: str,
    name: str,
    *,
    give_up: float | None = None,
    shared: bool = False,
    waiting: Callable[[], None] | None = None,
) -> int:
    """`take`, again and again until it is had; raises `StoreBusy` once it is `give_up` (time.monotonic).

    Before each pause `waiting`, or else `stopping.check`, is called, and may raise to end the wait.
    """
    waiting = waiting or check
    pause = _FIRST_PAUSE
    while True:
        fd = take(path, shared=shared)
        if fd is not None:
            return fd
        if give_up is not None and time.monotonic() >= give_up:
            raise StoreBusy(name)
        waiting()
        time.sleep(_pause(pause, give_up))
        pause = min(pause * 2, _LONGEST_PAUSE)


class Turns:
    """Lets the threads of this process that want a file exclusively have it one after the other, at once.

    A forked child has a line of its own: its parent's threads are not there to go on.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._lines: dict[str, tuple[threading.Lock, int]] = {}  # and how many hold it or wait

    def enter(
        self, path: str, *, give_up: float | None = None, waiting: Callable[[], None] | None = None
    ) -> bool:
        """Wait for the turn; False once it is `give_up` (time.monotonic). `waiting` as in `take_waiting`."""
        waiting = waiting or check
        if self._pid != os.getpid():
            self._reset()
        with self._mutex:
            line, count = self._lines.get(path) or (threading.Lock(), 0)
            self._lines[path] = line, count + 1
        try:
            while not line.acquire(timeout=_pause(_LONGEST_PAUSE, give_up)):
                if give_up is not None and time.monotonic() >= give_up:
                    self._leave(path)
                    return False
                waiting()
        except BaseException:
            self._leave(path)
            raise
        return True

    def pass_on(self, path: str) -> None:
        """Give the turn to who is next; does nothing in a forked child that has its parent's turn."""
        if self._pid == os.getpid():
            self._leave(path).release()

    def _leave(self, path: str) -> threading.Lock:
        with self._mutex:
            line, count = self._lines.pop(path)
            if count > 1:
                self._lines[path] = line, count - 1
        return line


def _pause(longest: float, give_up: float | None) -> float:
    return longest if give_up is None else max(0.0, min(longest, give_up - time.monotonic()))


class Lock:
    """The lock file at `path`, held inside a `with` block; one object is one acquisition at a time.

    `waiting`, or else `stopping.check`, is called before each pause and may raise to end the wait. Polled
    rather than blocking, so that a thread that waits can be told to stop; a release by another process is
    seen within 25 ms.
    """

    __slots__ = ("_fd", "_keep", "_name", "_path", "_root", "_shared", "_timeout", "_turns", "_waiting")

    def __init__(
        self,
        root: str,
        path: str,
        name: str,
        turns: Turns,
        *,
        timeout: float | None = None,
        shared: bool = False,
        waiting: Callable[[], None] | None = None,
        keep: bool = False,
    ) -> None:
        self._root = root
        self._path = path
        self._name = name
        self._turns = turns
        self._timeout = timeout
        self._shared = shared
        self._waiting = waiting
        self._keep = keep
        self._fd = -1

    def __enter__(self) -> Lock:
        """Take the lock; raises `StoreBusy`, `StoreFull`, `StoreUnusable`."""
        give_up = None if self._timeout is None else time.monotonic() + self._timeout
        alone = not self._shared
        if alone and not self._turns.enter(self._path, give_up=give_up, waiting=self._waiting):
            raise StoreBusy(self._name)
        try:
            self._fd = take_waiting(
                self._path, self._name, give_up=give_up, shared=self._shared, waiting=self._waiting
            )
        except BaseException as error:
            if alone:
                self._turns.pass_on(self._path)
            if isinstance(error, OSError):
                raise store_error(error, self._root) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fd, self._fd = self._fd, -1
        release(fd, None if self._keep else self._path)
        if not self._shared:
            self._turns.pass_on(self._path)


def release(fd: int, path: str | None) -> None:
    """Give up the lock on `fd`, unlinking its file `path` when nobody else holds it."""
    try:
        # a shared holder leaves the file to the others that share it
        if path is not None and try_flock(fd) and is_at(fd, path):
            os.unlink(path)
    except OSError:
        pass  # the file stays behind, unlocked, until the next holder or gc
    finally:
        os.close(fd)


def remove_idle(folder: str) -> None:
    """Delete lock files that killed processes left; each is taken first, so no holder loses its lock."""
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        release(fd, path)


class Gate:
    """The shared side of the lock that gc takes for each batch it deletes; reentrant, cheap (about 3 µs)."""

    __slots__ = ("_count", "_fd", "_mutex", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._count = 0
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        with self._mutex:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not self._count:
                fcntl.flock(self._fd, fcntl.LOCK_SH)
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._mutex:
            self._count -= 1
            if not self._count:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
