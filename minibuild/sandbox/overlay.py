"""Overlay mounts of many layers, detached, without their names showing inside.

Layers are handed to the kernel as descriptors (``/proc/self/fd/N``): no character needs escaping, no
length limit counts, and the sandbox's mount table tells nothing about the host. `userxattr` in every
mode, so that a store written as one user reads the same as another (Documentation/filesystems/overlayfs).
"""

from __future__ import annotations

import errno
import os

from minibuild.sandbox import syscalls

MAX_LAYERS = 500  # OVL_MAX_STACK

# userxattr switches redirect_dir and metacopy off whatever the host's defaults, and refuses to be told.
_FIXED = (("userxattr", ""), ("index", "off"))


def _folder(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"open layer folder {path}: {error.strerror}") from None


def mount(
    lowers: tuple[str, ...], upper: str, work: str, attributes: int, what: str, scratch: str = ""
) -> int:
    """A detached overlay of `lowers` (lowest first) with changes in `upper`; read-only without one.

    `scratch` is any folder that may be covered for a moment, for kernels before 6.5.
    A single lower with no upper is bound as it is; no lower at all binds the upper.
    Raises `OSError` that names `what`.
    """
    if len(lowers) > MAX_LAYERS:
        raise OSError(errno.E2BIG, f"mount {what}: {len(lowers)} layers, and overlayfs takes {MAX_LAYERS}")
    if not lowers or (len(lowers) == 1 and not upper):
        return _bind(lowers[0] if lowers else upper, attributes, what)
    if upper:
        _forget_volatile(work)
        _adopt_root(upper, lowers[-1])
    try:
        return _mount_by_context(lowers, upper, work, attributes, what)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS) or not scratch:
            raise
    return _mount_by_string(lowers, upper, work, attributes, what, scratch)


def _bind(path: str, attributes: int, what: str) -> int:
    fd = syscalls.open_tree(syscalls.AT_FDCWD, path, f"bind {what}")
    if attributes:
        syscalls.mount_setattr(fd, attributes, f"bind {what}")
    return fd


def _forget_volatile(work: str) -> None:
    """A work folder used with `volatile` before is refused until this mark is gone."""
    mark = f"{work}/work/incompat/volatile"
    try:
        os.unlink(f"{mark}/dirty")
    except FileNotFoundError:
        return
    os.rmdir(mark)


def _adopt_root(upper: str, lower: str) -> None:
    """A new upper folder's owner and mode become those of / inside: take the layer's below."""
    with os.scandir(upper) as entries:
        if next(entries, None) is not None:
            return
    fd = _folder(lower)
    below, now = os.fstat(fd), os.stat(upper)
    os.close(fd)
    if (below.st_uid, below.st_gid) != (now.st_uid, now.st_gid):
        os.chown(upper, below.st_uid, below.st_gid)
    if below.st_mode != now.st_mode:
        os.chmod(upper, below.st_mode & 0o7777)


def _mount_by_context(lowers: tuple[str, ...], upper: str, work: str, attributes: int, what: str) -> int:
    context = syscalls.fsopen("overlay")
    try:
        syscalls.fsconfig_string(context, "source", "overlay")
        for path in reversed(lowers):
            _set_folder(context, "lowerdir+", path)
        if upper:
            _set_folder(context, "upperdir", upper)
            _set_folder(context, "workdir", work)
            syscalls.fsconfig_flag(context, "volatile")
        for key, value in _FIXED:
            if value:
                syscalls.fsconfig_string(context, key, value)
            else:
                syscalls.fsconfig_flag(context, key)
        return syscalls.fsmount(context, attributes, f"mount overlay on {what}")
    finally:
        os.close(context)


def _set_folder(context: int, key: str, path: str) -> None:
    fd = _folder(path)
    try:
        syscalls.fsconfig_string(context, key, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _mount_by_string(
    lowers: tuple[str, ...], upper: str, work: str, attributes: int, what: str, scratch: str
) -> int:
    """mount(2) with the option string, cut at 4096 bytes: names relative to /proc/self/fd are short."""
    operation = f"mount overlay on {what}"
    fds = [_folder(path) for path in (*reversed(lowers), *((upper, work) if upper else ()))]
    place = _folder(scratch)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/proc/self/fd")
        layers = ":".join(str(fd) for fd in fds[: len(lowers)])
        options = [f"lowerdir={layers}"]
        if upper:
            options += [f"upperdir={fds[-2]}", f"workdir={fds[-1]}", "volatile"]
        options += [f"{key}={value}" if value else key for key, value in _FIXED]
        syscalls.mount("overlay", str(place), "overlay", 0, ",".join(options), operation)
        tree = syscalls.open_tree(syscalls.AT_FDCWD, scratch, operation)
        syscalls.umount(scratch, operation)
        if attributes:
            syscalls.mount_setattr(tree, attributes, operation)
        return tree
    finally:
        os.fchdir(here)
        for fd in (here, place, *fds):
            os.close(fd)
