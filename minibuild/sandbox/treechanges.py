"""What a process has changed in a folder of ours: every file's attributes before and after are compared.

The change time tells, which no process can set. The changes are copied to the folder that an overlay would
have filled. Nothing runs in the folder meanwhile; a path is followed only where each part of it was seen to
be a folder.
"""

from __future__ import annotations

import os
import stat

from minibuild.layers import owners
from minibuild.sandbox import paths
from minibuild.sandbox.privatetree import OPAQUE, attributes, copy, dress

# Inode, mode, user, group, size, times of content and of the inode (ns), device number, links, and of a
# folder when it was made (ns): one that takes another's place may be given its inode.
Signature = tuple[int, int, int, int, int, int, int, int, int, int]
Scan = dict[bytes, Signature]

_INODE, _MODE, _UID, _GID, _SIZE, _MTIME, _CTIME, _DEVICE, _LINKS, _BIRTH = range(10)
_COMPARED = 1 << 20


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
            copy(source, upper + b"/" + path, os.lstat(source), links)
        for path in gone:
            os.mknod(upper + b"/" + path, stat.S_IFCHR, 0)
        for path in self._opaque:
            os.setxattr(upper + b"/" + path, OPAQUE, b"y")
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
        if attributes(below, follow=True) != attributes(here):
            return False
        return not stat.S_ISREG(now[_MODE]) or _same_content(here, below)


def _is_another(was: Signature, now: Signature) -> bool:
    """Whether a folder is not the one that was there, or takes a file's place."""
    return was[_INODE] != now[_INODE] or was[_BIRTH] != now[_BIRTH]


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while piece := first.read(_COMPARED):
            if piece != second.read(_COMPARED):
                return False
        return not second.read(1)
