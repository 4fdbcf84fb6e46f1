"""Files as a system call of another process names them, opened from outside of its namespaces.

A path is looked up inside the root of the process that asks, whatever links are on it.
"""

from __future__ import annotations

import errno
import os
import stat

from minibuild.sandbox import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PATH_MAX = 4096
_MAX_LINKS = 40
_O_PATH = os.O_PATH | os.O_CLOEXEC
_PLAIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_STANDARD = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}
_DESCRIPTORS = (b"/dev/fd/", b"/proc/self/fd/", b"/proc/thread-self/fd/")


class CallerFiles:
    """Opens paths for callers; changes this process's root meanwhile, and takes it back."""

    def __init__(self) -> None:
        self._root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, pid: int, at: int, path: bytes, *, follow: bool, check: Callable[[], None]) -> int:
        """The file that `path`, from the descriptor `at`, names for thread `pid`, itself and not its content.

        `check` raises where the number `pid` may be another's by now. Raises `OSError`.
        """
        base = b"/proc/%d/cwd" % pid if at == syscalls.AT_FDCWD else b"/proc/%d/fd/%d" % (pid, at)
        try:
            base_fd = os.open(base, _O_PATH)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "") from None
        if not path:
            return base_fd
        if not path.startswith(b"/"):
            plain = _plain(base_fd, path, follow)
            if plain >= 0:
                os.close(base_fd)
                return plain
        root_fd = os.open(b"/proc/%d/root" % pid, _O_PATH | os.O_DIRECTORY)
        try:
            check()
            found = self._look_up(root_fd, base_fd, path, follow)
        finally:
            os.close(base_fd)
            os.close(root_fd)
        return found if isinstance(found, int) else descriptor(pid, int(found))

    def _look_up(self, root_fd: int, base_fd: int, path: bytes, follow: bool) -> int | str:
        """A descriptor, or in digits the number of one of the caller's own that the path means."""
        try:
            os.fchdir(root_fd)
            os.chroot(".")
            if not path.startswith(b"/"):
                os.fchdir(base_fd)
            if not follow:
                return os.open(path, _O_PATH | os.O_NOFOLLOW)
            return _follow(path)
        finally:
            os.fchdir(self._root_fd)
            os.chroot(".")


def _plain(base_fd: int, path: bytes, follow: bool) -> int:
    """Open `path` where no link and no ``..`` is on it, as mostly; -1 where that is not so."""
    try:
        return syscalls.openat2(base_fd, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW), _PLAIN)
    except OSError:
        return -1


def _follow(path: bytes) -> int | str:
    """Open `path` following links; those through /proc/self mean the caller, and are taken by hand."""
    try:
        if path in _STANDARD or path.startswith(_DESCRIPTORS):
            raise FileNotFoundError
        return os.open(path, _O_PATH)
    except FileNotFoundError:
        pass
    for _ in range(_MAX_LINKS):
        if path in _STANDARD:
            return str(_STANDARD[path])
        for prefix in _DESCRIPTORS:
            if path.startswith(prefix) and path[len(prefix) :].isdigit():
                return path[len(prefix) :].decode()
        fd = os.open(path, _O_PATH | os.O_NOFOLLOW)
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            return fd
        try:
            target = os.fsencode(os.readlink("", dir_fd=fd))
        finally:
            os.close(fd)
        path = target if target.startswith(b"/") else path[: path.rfind(b"/") + 1] + target
    raise OSError(errno.ELOOP, "")


def descriptor(pid: int, number: int) -> int:
    """The file behind a descriptor of a thread; raises `OSError`."""
    try:
        return os.open(f"/proc/{pid}/fd/{number}", _O_PATH)
    except FileNotFoundError:
        raise OSError(errno.EBADF, "") from None


def text(pid: int, address: int) -> bytes:
    """The string at `address` of a thread; raises `OSError`."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, _PATH_MAX, address)
    except (OSError, OverflowError):
        raise OSError(errno.EFAULT, "") from None
    finally:
        os.close(fd)
    found, end, _ = data.partition(b"\0")
    if not end:
        raise OSError(errno.ENAMETOOLONG if len(data) == _PATH_MAX else errno.EFAULT, "")
    return found
