"""Folders by name, each whole from the moment it can be seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from minibuild_store.errors import store_error
from minibuild_store.files import Remove, remove_tree, sync_folder
from minibuild_store.session import Session, Workspace

TRASH = ".trash-"  # how the name of a folder on its way out begins


class Snapshots:
    """The snapshots of one store. What this process commits is kept from gc until the store is closed."""

    def __init__(self, folder: str, session: Session) -> None:
        self._folder = folder
        self._session = session

    def _path(self, name: str) -> str:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
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
        trash = f"{self._folder}/{TRASH}{os.urandom(6).hex()}"
        try:
            os.rename(path, trash)
            (remove or remove_tree)(Path(trash))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def names(self) -> Iterator[str]:
        """Names of all snapshots, in no order."""
        return (name for name in os.listdir(self._folder) if not name.startswith("."))
