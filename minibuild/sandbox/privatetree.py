"""A root file system as one folder of our own, for machines that mount nothing: layers are copied into it.

A path is followed only where each part of it was seen to be a folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

_FICLONE = 0x40049409
OPAQUE = b"user.overlay.opaque"
_OVERLAY = (b"user.overlay.", b"trusted.overlay.")


def apply(layer: bytes, tree: bytes) -> None:
    """Put an unpacked layer, as overlayfs takes it, on top of what is in the folder `tree`."""
    links: dict[int, bytes] = {}
    _apply_folder(layer, tree, links)


def apply_part(layers: tuple[str, ...], tree: bytes, parts: list[bytes]) -> bool:
    """Put what `layers` have at the path `parts` into the empty `tree`; false where a link is on it."""
    return all(_apply_part(os.fsencode(layer), tree, parts) for layer in layers)


def _apply_part(layer: bytes, tree: bytes, parts: list[bytes]) -> bool:
    here, there = layer, tree
    for number, part in enumerate(parts):
        here, there = here + b"/" + part, there + b"/" + part
        try:
            info = os.lstat(here)
        except FileNotFoundError:
            return True
        if _is_whiteout(info):
            remove(there)
            return True
        if not stat.S_ISDIR(info.st_mode):
            if stat.S_ISLNK(info.st_mode) or number + 1 < len(parts):
                return False
            remove(there)
            copy(here, there, info, {})
        elif not _is_folder(there):
            remove(there)
            os.mkdir(there, 0o755)
        elif _attribute(here, OPAQUE) == b"y":
            empty(there)
    if _is_folder(here):
        _apply_folder(here, there, {})
    return True


def _apply_folder(source: bytes, target: bytes, links: dict[int, bytes]) -> None:
    with os.scandir(source) as entries:
        found = list(entries)
    for entry in found:
        here, there = source + b"/" + entry.name, target + b"/" + entry.name
        info = entry.stat(follow_symlinks=False)
        if _is_whiteout(info):
            remove(there)
        elif stat.S_ISDIR(info.st_mode):
            if not _is_folder(there):
                remove(there)
                os.mkdir(there, 0o700)
            elif _attribute(here, OPAQUE) == b"y":
                empty(there)
            _apply_folder(here, there, links)
        else:
            remove(there)
            copy(here, there, info, links)
    dress(source, target, os.lstat(source))


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def remove(path: bytes) -> None:
    """Remove whatever is at `path`, if anything; links are not followed."""
    if _is_folder(path):
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(folder + b"/" + name)
            for name in folders:  # links to folders are among them
                inner = folder + b"/" + name
                (os.rmdir if _is_folder(inner) else os.unlink)(inner)
        os.rmdir(path)
        return
    try:  # noqa: SIM105
        os.unlink(path)
    except FileNotFoundError:
        pass


def empty(folder: bytes) -> None:
    """Remove all that is in a folder."""
    for name in os.listdir(folder):
        remove(folder + b"/" + name)


def copy(source: bytes, target: bytes, info: os.stat_result, links: dict[int, bytes]) -> None:
    """Copy a file, link or special file with all its attributes; names of one inode stay that."""
    if info.st_nlink > 1:
        first = links.setdefault(info.st_ino, target)
        if first != target:
            os.link(first, target, follow_symlinks=False)
            return
    if stat.S_ISREG(info.st_mode):
        _copy_content(source, target, info.st_size)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        try:
            os.mknod(target, info.st_mode, info.st_rdev)
        except PermissionError:
            return  # a device that this container may not have
    dress(source, target, info)


def _copy_content(source: bytes, target: bytes, size: int) -> None:
    from_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    to_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.ioctl(to_fd, _FICLONE, from_fd)
            return
        except OSError:
            pass
        os.ftruncate(to_fd, size)
        offset = 0
        while offset < size:
            try:  # holes stay holes
                offset = os.lseek(from_fd, offset, os.SEEK_DATA)
                end = os.lseek(from_fd, offset, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                end = size
            os.lseek(from_fd, offset, os.SEEK_SET)
            os.lseek(to_fd, offset, os.SEEK_SET)
            while offset < end:
                copied = os.sendfile(to_fd, from_fd, None, end - offset)
                if not copied:
                    return
                offset += copied
    finally:
        os.close(from_fd)
        os.close(to_fd)


def dress(source: bytes, target: bytes, info: os.stat_result) -> None:
    """Give `target` the owner, attributes, mode and times of `source`, whose status is `info`."""
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    for name, value in attributes(source).items():
        os.setxattr(target, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def attributes(path: bytes, *, follow: bool = False) -> dict[bytes, bytes]:
    """Extended attributes, less those of overlayfs and of security modules."""
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError:
        return {}
    found = {}
    for name in map(os.fsencode, names):
        if (name.startswith(b"user.") and not name.startswith(_OVERLAY)) or name == b"security.capability":
            found[name] = os.getxattr(path, name, follow_symlinks=follow)
    return found


def _attribute(path: bytes, name: bytes) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return b""
