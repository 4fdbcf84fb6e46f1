"""Folders by name, each whole from the moment it can be seen."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from minibuild_store.errors import store_error
from minibuild_store.files import Remove, remove_tree, sync_folder
from minibuild_store.session import Session, Workspace, any_alive

TRASH = ".trash-"  # how the name of a folder on its way out begins


_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT = ".boot"  # the boot in which the store was last opened
_UNFLUSHED_NS = 600 * 10**9  # far longer than a kernel keeps written data from the disk


class Snapshots:
    """The snapshots of one store. What this process commits is kept from gc until the store is closed."""

    def __init__(self, folder: str, session: Session) -> None:
        self._folder = folder
        self._session = session

    def _path(self, name: str) -> str:
        if not name or name.startswith(".") or any(mark in name for mark in "/\0\n"):
            raise ValueError(f"{name!r} cannot name a snapshot")
        return f"{self._folder}/{name}"

    def path(self, name: str) -> Path | None:
        """The folder committed as `name`, None if there is none."""
        path = self._path(name)
        return Path(path) if os.path.isdir(path) else None

    def workspace(self, *, remove: Remove | None = None) -> Workspace:
        """A temporary folder to fill and commit, removed if it was not; see `Workspace`."""
        return Workspace(self._session, remove)

    def commit(self, folder: Path, name: str) -> Path:
        """Make `folder` the snapshot `name` and return its path; whoever commits first wins.

        `folder` itself, though not what is in it, must belong to and be writable by this process's user.
        If another was first, its path is returned and `folder` stays where it is.
        """
        target = self._path(name)
        self._session.hold(name)
        try:
            if not os.path.isdir(target):
                if self._session.durable:
                    os.sync()  # a folder's files have no cheaper way to the disk from here
                os.rename(folder, target)
                if self._session.durable:
                    sync_folder(self._folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise store_error(error, self._session.root) from error
        return Path(target)

    def delete(self, name: str, *, remove: Remove | None = None) -> None:
        """Remove the snapshot whoever uses it; absent is fine."""
        path = self._path(name)
        try:
            trash = to_trash(self._folder, path)
            (remove or remove_tree)(Path(trash))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def names(self) -> Iterator[str]:
        """Names of all snapshots, in no order."""
        return (name for name in os.listdir(self._folder) if not name.startswith("."))


def to_trash(folder: str, path: str) -> str:
    """Take a snapshot out of sight at once; its path until `empty_trash` deletes it."""
    trash = f"{folder}/{TRASH}{os.urandom(6).hex()}"
    os.rename(path, trash)
    return trash


def empty_trash(folder: str, remove: Remove) -> list[Path]:
    """Delete what was put in the trash; returns what `remove` could not."""
    left = []
    for name in os.listdir(folder):
        if name.startswith(TRASH):
            path = Path(folder, name)
            try:
                remove(path)
            except OSError:
                if path.exists():
                    left.append(path)
    return left


def settle(folder: str, running: str) -> None:
    """On the first open after a boot, drop the snapshots that a power cut may have hollowed out.

    Their names may have reached the disk without their files, and nothing checks a snapshot when it is used.
    What was committed well before the newest one had been flushed by then, whenever the power failed.
    """
    boot = _read(_BOOT_ID)
    path = f"{folder}/{_BOOT}"
    if not boot or _read(path) == boot:
        return
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        seen = os.pread(fd, 4096, 0)
        if seen == boot:
            return
        # a live session on another boot is another machine on a shared disk, not a past that ended
        if seen and not any_alive(running):
            _drop_unflushed(folder)
        with contextlib.suppress(OSError):  # on a full disk the next open does all this again
            os.pwrite(fd, boot, 0)
    finally:
        os.close(fd)


def _drop_unflushed(folder: str) -> None:
    with os.scandir(folder) as entries:
        committed = {entry.path: entry.stat().st_ctime_ns for entry in entries if entry.name[0] != "."}
    newest = max(committed.values(), default=0)
    for path, time_ns in committed.items():
        if time_ns >= newest - _UNFLUSHED_NS:
            to_trash(folder, path)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
