"""Descriptors of the directories below a root, opened without ever following a symbolic link."""

from __future__ import annotations

import os

_KEPT = min(200, os.sysconf("SC_OPEN_MAX") // 4)  # of as many as this process may have open
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a directory that is no link."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to make a file where nothing is."""


class Folders:
    """Open directories by their path below `root`; `Entry.path` form, the root is ``b""``.

    A path whose part is missing, a link or a file raises the `OSError` of the kernel.
    """

    __slots__ = ("_fds",)

    def __init__(self, root: os.PathLike[str] | str) -> None:
        self._fds = {b"": os.open(root, FOLDER & ~os.O_NOFOLLOW)}

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def open(self, path: bytes) -> int:
        """A descriptor of the directory `path`, good until `forget` or `trim`; it stays ours."""
        fd = self._fds.get(path)
        if fd is not None:
            return fd
        names = []
        known = path
        while known not in self._fds:
            known, _, name = known.rpartition(b"/")
            names.append(name)
        fd = self._fds[known]
        owned = False
        for name in reversed(names):
            try:
                below = os.open(name, FOLDER, dir_fd=fd)
            finally:
                if owned:
                    os.close(fd)
            fd, owned = below, True
        self._fds[path] = fd
        return fd

    def forget(self, path: bytes) -> None:
        """Close the directory `path`, which is about to go."""
        fd = self._fds.pop(path, None)
        if fd is not None:
            os.close(fd)

    def trim(self) -> None:
        """Keep well within the limit of open files; call it where no descriptor is in use."""
        if len(self._fds) > _KEPT:
            for path in [path for path in self._fds if path]:
                os.close(self._fds.pop(path))


def write_all(fd: int, piece: memoryview | bytes) -> None:
    done = os.write(fd, piece)
    while done < len(piece):
        done += os.write(fd, memoryview(piece)[done:])
