"""Names inside a hostile root folder: resolved without ever leaving it, and made where they are missing.

Symbolic links count from the root, as they would after pivot_root. Nothing here opens a path of an
image by plain open(2): openat2(2) with RESOLVE_IN_ROOT, or BENEATH | NO_SYMLINKS for a resolved name.
"""

from __future__ import annotations

import errno
import os
import stat

from minibuild.sandbox import singleid, syscalls

_MAX_LINKS = 40
_EXACT = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_MAX_USER_FILE = 10 << 20

# One path that was made: its name under the root, whether it is a folder, its parent's mtime before
# and after in nanoseconds, and the device number that holds it.
Stub = tuple[str, bool, int, int]


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of `path` with every link resolved inside the root; raises `OSError`."""
    return syscalls.openat2(
        root_fd, path.lstrip("/") or ".", flags, syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    )


def open_exact(root_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of `path`, in which no part may be a link except the last with O_NOFOLLOW | O_PATH."""
    return syscalls.openat2(root_fd, path or ".", flags | os.O_NOFOLLOW, _EXACT)


def read_user_file(root_fd: int, path: str) -> bytes | None:
    """The content of a small regular file of the image, None where there is none."""
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        parts = []
        size = 0
        while part := os.read(fd, 1 << 16):
            parts.append(part)
            size += len(part)
            if size > _MAX_USER_FILE:
                raise OSError(errno.EFBIG, f"{path} of the image is larger than {_MAX_USER_FILE} bytes")
        return b"".join(parts)
    finally:
        os.close(fd)


def resolve(root_fd: int, path: str) -> tuple[list[str], list[str]]:
    """The parts of `path` with links resolved: those that exist, and those after them that do not."""
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        try:
            fd = open_exact(root_fd, "/".join([*done, part]))
        except FileNotFoundError:
            return done, _lexical([part, *todo[::-1]])
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)
        if target.startswith("/"):
            done.clear()
        todo += target.split("/")[::-1]
    return done, []


def _lexical(parts: list[str]) -> list[str]:
    clean: list[str] = []
    for part in parts:
        if part == "..":
            del clean[-1:]
        elif part not in ("", "."):
            clean.append(part)
    return clean


def ensure(
    root_fd: int, path: str, *, folder: bool, stubs: list[Stub] | None = None, owner: tuple[int, int] = (0, 0)
) -> int:
    """A descriptor of `path` in the root, made (0755, an empty file or folder) where it is missing.

    Missing parents are made too. What was made in the root's own file system is added to `stubs`.
    """
    try:
        return open_in_root(root_fd, path)
    except FileNotFoundError:
        pass
    done, missing = resolve(root_fd, path)
    parent_fd = open_exact(root_fd, "/".join(done), os.O_RDONLY | os.O_DIRECTORY)
    try:
        in_root = os.fstat(parent_fd).st_dev == os.fstat(root_fd).st_dev
        for position, name in enumerate(missing):
            is_folder = folder or position + 1 < len(missing)
            before = os.fstat(parent_fd).st_mtime_ns
            child_fd = _make(parent_fd, name, is_folder, owner)
            done.append(name)
            if stubs is not None and in_root:
                stubs.append(("/".join(done), is_folder, before, os.fstat(parent_fd).st_mtime_ns))
            os.close(parent_fd)
            parent_fd = child_fd
        return os.dup(parent_fd)
    finally:
        os.close(parent_fd)


def _make(parent_fd: int, name: str, folder: bool, owner: tuple[int, int]) -> int:
    if folder:
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
    else:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o755, dir_fd=parent_fd)
    if owner != (0, 0):
        singleid.give(fd, *owner)
    return fd


def remove_stubs(upper: str, stubs: list[Stub]) -> None:
    """Take back what `ensure` made in an overlay whose upper folder is `upper` (no longer mounted).

    A stub that holds something stays. A parent gets back the time it had, unless something else
    has changed it since.
    """
    upper_fd = os.open(upper, os.O_PATH | os.O_DIRECTORY)
    try:
        times: dict[str, tuple[int, int]] = {}
        for path, _folder, before, after in stubs:
            parent = path.rpartition("/")[0]
            times[parent] = (times[parent][0] if parent in times else before, after)
        for path, folder, _before, _after in reversed(stubs):
            _remove_stub(upper_fd, path, folder, times)
    finally:
        os.close(upper_fd)


def _remove_stub(upper_fd: int, path: str, folder: bool, times: dict[str, tuple[int, int]]) -> None:
    parent, _, name = path.rpartition("/")
    try:
        parent_fd = open_exact(upper_fd, parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # the process replaced the parent: nothing of ours is left there
    try:
        now = os.fstat(parent_fd)
        found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode) != folder or (not folder and found.st_size):
            return
        if folder:
            os.rmdir(name, dir_fd=parent_fd)
        else:
            os.unlink(name, dir_fd=parent_fd)
        before, after = times[parent]
        mtime = before if now.st_mtime_ns == after else now.st_mtime_ns
        os.utime(parent_fd, ns=(now.st_atime_ns, mtime))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
    finally:
        os.close(parent_fd)
