"""A root file system as one folder of our own, for machines that mount nothing.

Layers are copied into it in order. What a process has changed is found by comparing the attributes of
every file before and after: the change time tells, which no process can set. The changes are copied to
the folder that an overlay would have filled. Nothing runs in the folder meanwhile; a path is followed
only where each part of it was seen to be a folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from minibuild.layers import owners
from minibuild.sandbox import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Inode, mode, user, group, size, times of content and of the inode (ns), device number, links, and of a
# folder when it was made (ns): one that takes another's place may be given its inode.
Signature = tuple[int, int, int, int, int, int, int, int, int, int]
Scan = dict[bytes, Signature]

_INODE, _MODE, _UID, _GID, _SIZE, _MTIME, _CTIME, _DEVICE, _LINKS, _BIRTH = range(10)
_FICLONE = 0x40049409
_OPAQUE = b"user.overlay.opaque"
_OVERLAY = (b"user.overlay.", b"trusted.overlay.")
_COMPARED = 1 << 20


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
            _copy(here, there, info, {})
        elif not _is_folder(there):
            remove(there)
            os.mkdir(there, 0o755)
        elif _attribute(here, _OPAQUE) == b"y":
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
            elif _attribute(here, _OPAQUE) == b"y":
                empty(there)
            _apply_folder(here, there, links)
        else:
            remove(there)
            _copy(here, there, info, links)
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


def _copy(source: bytes, target: bytes, info: os.stat_result, links: dict[int, bytes]) -> None:
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
    for name, value in _attributes(source).items():
        os.setxattr(target, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _attributes(path: bytes) -> dict[bytes, bytes]:
    """Extended attributes, less those of overlayfs and of security modules."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    found = {}
    for name in map(os.fsencode, names):
        if (name.startswith(b"user.") and not name.startswith(_OVERLAY)) or name == b"security.capability":
            found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


def _attribute(path: bytes, name: bytes) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return b""


def scan(tree: bytes) -> Scan:
    """Every path in the tree, relative to it, with its attributes; some 5 microseconds each."""
    found: Scan = {}
    stack = [b""]
    while stack:
        folder = stack.pop()
        with os.scandir(tree + b"/" + folder) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                path = folder + b"/" + entry.name if folder else entry.name
                is_folder = stat.S_ISDIR(info.st_mode)
                found[path] = (
                    info.st_ino,
                    info.st_mode,
                    info.st_uid,
                    info.st_gid,
                    info.st_size,
                    info.st_mtime_ns,
                    info.st_ctime_ns,
                    info.st_rdev,
                    info.st_nlink,
                    owners.birth(tree + b"/" + path) if is_folder else 0,
                )
                if is_folder:
                    stack.append(path)
    return found


class Changes:
    """What changed in a tree between two scans; `lowers` are the layers it was made of."""

    def __init__(self, tree: bytes, before: Scan, after: Scan, lowers: tuple[str, ...]) -> None:
        self._tree = tree
        self._before = before
        self._after = after
        self._lowers = lowers
        self._new: set[bytes] = set()  # of folders among them all content is new
        self._opaque: set[bytes] = set()
        self._had_children = {path.rpartition(b"/")[0] for path in before}

    def copy_to(self, upper: bytes) -> None:
        """Fill the empty folder `upper` as an overlay would have."""
        changed = self._changed()
        gone = self._gone()
        folders = {b""}
        for path in (*changed, *gone):
            while path := path.rpartition(b"/")[0]:
                folders.add(path)
        folders |= {path for path in changed if stat.S_ISDIR(self._after[path][_MODE])}
        for path in sorted(folders - {b""}):
            os.mkdir(upper + b"/" + path, 0o700)
        links: dict[int, bytes] = {}
        for path in sorted(set(changed) - folders):
            source = self._tree + b"/" + path
            _copy(source, upper + b"/" + path, os.lstat(source), links)
        for path in gone:
            os.mknod(upper + b"/" + path, stat.S_IFCHR, 0)
        for path in self._opaque:
            os.setxattr(upper + b"/" + path, _OPAQUE, b"y")
        for path in sorted(folders, reverse=True):
            source = self._tree + b"/" + path if path else self._tree
            dress(source, upper + b"/" + path if path else upper, os.lstat(source))

    def _changed(self) -> list[bytes]:
        changed = []
        for path, now in sorted(self._after.items()):
            was = self._before.get(path)
            parent = path.rpartition(b"/")[0]
            if parent in self._new or was is None:
                changed.append(path)
                self._new.add(path)
            elif stat.S_ISDIR(now[_MODE]) and _is_another(was, now):
                changed.append(path)
                self._new.add(path)
                if stat.S_ISDIR(was[_MODE]) and path in self._had_children:
                    self._opaque.add(path)
            elif was != now and self._differs(path, was, now):
                changed.append(path)
        return changed

    def _gone(self) -> list[bytes]:
        """Paths that are there no more, less those whose parent is gone or was replaced too."""
        gone = []
        for path in sorted(self._before):
            parent = path.rpartition(b"/")[0]
            if path in self._after or parent in self._new:
                continue
            if not parent or (parent in self._after and stat.S_ISDIR(self._after[parent][_MODE])):
                gone.append(path)
        return gone

    def _differs(self, path: bytes, was: Signature, now: Signature) -> bool:
        """Whether more changed than times that mean nothing."""
        if was[_MODE : _GID + 1] != now[_MODE : _GID + 1] or was[_DEVICE] != now[_DEVICE]:
            return True
        folder = stat.S_ISDIR(now[_MODE])
        if not folder and (was[_SIZE] != now[_SIZE] or was[_MTIME] != now[_MTIME]):
            return True
        if was[_CTIME] == now[_CTIME] and was[_INODE] == now[_INODE]:
            return False
        return not self._same_as_below(path, now)

    def _same_as_below(self, path: bytes, now: Signature) -> bool:
        for lower in reversed(self._lowers):
            lower_fd = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = paths.open_exact(lower_fd, os.fsdecode(path))
            except OSError:
                continue
            finally:
                os.close(lower_fd)
            try:
                return self._same(path, now, b"/proc/self/fd/%d" % fd, fd)
            finally:
                os.close(fd)
        return False

    def _same(self, path: bytes, now: Signature, below: bytes, fd: int) -> bool:
        here = self._tree + b"/" + path
        if stat.S_ISLNK(now[_MODE]):
            return os.readlink(here) == os.readlink(b"", dir_fd=fd)
        if _followed(below) != _attributes(here):
            return False
        return not stat.S_ISREG(now[_MODE]) or _same_content(here, below)


def _is_another(was: Signature, now: Signature) -> bool:
    """Whether a folder is not the one that was there, or takes a file's place."""
    return was[_INODE] != now[_INODE] or was[_BIRTH] != now[_BIRTH]


def _followed(link: bytes) -> Mapping[bytes, bytes]:
    """Attributes of the file that a link in /proc/self/fd leads to."""
    found = {}
    for name in map(os.fsencode, os.listxattr(link)):
        if (name.startswith(b"user.") and not name.startswith(_OVERLAY)) or name == b"security.capability":
            found[name] = os.getxattr(link, name)
    return found


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while piece := first.read(_COMPARED):
            if piece != second.read(_COMPARED):
                return False
        return not second.read(1)
