"""A user namespace of a run's own, with the same ids, where /proc shows other runs' processes.

The kernel lets a process look into another's memory, variables and root folder where both are in one user
namespace and it has no less capabilities. Mostly runs do not see each other, but where the machine masks
/proc they all have the machine's.
"""

from __future__ import annotations

import os

from minibuild.sandbox import syscalls

_MAPS = ("uid_map", "gid_map")


class Apart:
    """What `enter` needs of the host's view; made before the root is changed, in the run's process."""

    def __init__(self) -> None:
        self._own_fd = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._same = [_same(name) for name in _MAPS]

    def enter(self) -> None:
        """Move into the namespace; its ids are mapped by a child, which keeps the rights over ours."""
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            self._map(ready)
        syscalls.unshare(syscalls.CLONE_NEWUSER, "make a user namespace for this run")
        os.write(go, b"x")
        _pid, status = os.waitpid(child, 0)
        if status:
            raise OSError(1, "the ids of a user namespace for this run cannot be mapped")
        for fd in (ready, go, self._own_fd):
            os.close(fd)

    def _map(self, ready: int) -> None:
        code = 1
        try:
            os.read(ready, 1)
            for name, text in zip(_MAPS, self._same, strict=True):
                os.write(os.open(name, os.O_WRONLY, dir_fd=self._own_fd), text)
            code = 0
        finally:
            os._exit(code)


def _same(name: str) -> bytes:
    """A map of every id there is to itself (user_namespaces(7))."""
    with open(f"/proc/self/{name}", "rb") as file:
        rows = [line.split() for line in file]
    return b"".join(b"%b %b %b\n" % (first, first, size) for first, _outside, size in rows)
