"""What a process has changed in a folder of ours: every file's attributes before and after are compared.

The change time tells, which no process can set. The changes are copied to the folder that an overlay would
have filled. Nothing runs in the folder meanwhile; a path is followed only where each part of it was seen to
be a folder. What was before and what is now are read side by side, so that little of either is held.
"""

from __future__ import annotations

import os
import stat

from minibuild.sandbox import paths
from minibuild.sandbox.privatetree import OPAQUE, attributes, copy, dress
from minibuild.sandbox.treepicture import (
    BIRTH,
    CTIME,
    DEVICE,
    GID,
    INODE,
    MODE,
    MTIME,
    SIZE,
    comes_before,
    walk,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minibuild.sandbox.treepicture import Seen, Signature

_COMPARED = 1 << 20


def copy_changes(
    tree: bytes, before: Iterable[Seen], lowers: tuple[str, ...], upper: bytes, room: str
) -> None:
    """Fill the empty folder `upper` as an overlay would have, with what changed in `tree`.

    `before` is what `walk` gave of it, `lowers` are the layers it was made of then; `room` as for `walk`.
    """
    changes = _Changes(tree, lowers, upper)
    rest = iter(before)
    was = next(rest, None)
    for path, now in walk(tree, room):
        while was is not None and was[0] != path and comes_before(was[0], path):
            changes.gone(was[0])
            was = next(rest, None)
        if was is not None and was[0] == path:
            changes.stayed(path, was[1], now)
            was = next(rest, None)
        else:
            changes.came(path, now)
    while was is not None:
        changes.gone(was[0])
        was = next(rest, None)
    changes.finish()


class _Folder:
    """A folder of the tree that the walk is in; `inside` begins the paths of what it holds."""

    __slots__ = ("copied", "inside", "new", "replaced")

    def __init__(self, inside: bytes, *, new: bool, replaced: bool = False) -> None:
        self.inside = inside
        self.new = new  # and all content with it
        self.replaced = replaced  # a folder that was there before
        self.copied = False


class _Changes:
    """Takes paths in the order of a walk, each once."""

    def __init__(self, tree: bytes, lowers: tuple[str, ...], upper: bytes) -> None:
        self._tree = tree + b"/"
        self._upper = upper + b"/"
        self._lowers = lowers
        self._links: dict[int, bytes] = {}
        self._folders = [_Folder(b"", new=False)]
        self._folders[0].copied = True

    def gone(self, path: bytes) -> None:
        """It is there no more; nothing is to be said of one whose folder is gone or new."""
        folder = self._back_to(path)
        if folder.inside != path[: path.rfind(b"/") + 1]:
            return
        self._had(folder)
        if not folder.new:
            self._copy_folders()
            os.mknod(self._upper + path, stat.S_IFCHR, 0)

    def came(self, path: bytes, now: Signature) -> None:
        """It was not there before."""
        self._back_to(path)
        self._copy(path, now, new=True)

    def stayed(self, path: bytes, was: Signature, now: Signature) -> None:
        """It was there before, as this or as something else."""
        folder = self._back_to(path)
        self._had(folder)
        is_folder = stat.S_ISDIR(now[MODE])
        if folder.new:
            self._copy(path, now, new=True)
        elif is_folder and _is_another(was, now):
            self._copy(path, now, new=True, replaced=stat.S_ISDIR(was[MODE]))
        elif was != now and self._differs(path, was, now):
            self._copy(path, now)
        elif is_folder:
            self._folders.append(_Folder(path + b"/", new=False))

    def finish(self) -> None:
        """All has been told."""
        while self._folders:
            self._leave()

    def _back_to(self, path: bytes) -> _Folder:
        """Leave the folders that `path` is not in; the innermost that it is."""
        while not path.startswith(self._folders[-1].inside):
            self._leave()
        return self._folders[-1]

    def _leave(self) -> None:
        folder = self._folders.pop()
        if folder.copied:
            source = (self._tree + folder.inside)[:-1]
            dress(source, (self._upper + folder.inside)[:-1], os.lstat(source))

    def _had(self, folder: _Folder) -> None:
        """Note that `folder` held something before."""
        if folder.replaced:
            folder.replaced = False
            os.setxattr((self._upper + folder.inside)[:-1], OPAQUE, b"y")

    def _copy(self, path: bytes, now: Signature, *, new: bool = False, replaced: bool = False) -> None:
        if stat.S_ISDIR(now[MODE]):
            self._folders.append(_Folder(path + b"/", new=new, replaced=replaced))
            self._copy_folders()
        else:
            self._copy_folders()
            source = self._tree + path
            copy(source, self._upper + path, os.lstat(source), self._links)

    def _copy_folders(self) -> None:
        """Make those that the walk is in; they are dressed when it leaves them."""
        if self._folders[-1].copied:
            return
        for folder in self._folders:
            if not folder.copied:
                os.mkdir((self._upper + folder.inside)[:-1], 0o700)
                folder.copied = True

    def _differs(self, path: bytes, was: Signature, now: Signature) -> bool:
        """Whether more changed than times that mean nothing."""
        if was[MODE : GID + 1] != now[MODE : GID + 1] or was[DEVICE] != now[DEVICE]:
            return True
        folder = stat.S_ISDIR(now[MODE])
        if not folder and (was[SIZE] != now[SIZE] or was[MTIME] != now[MTIME]):
            return True
        if was[CTIME] == now[CTIME] and was[INODE] == now[INODE]:
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
        here = self._tree + path
        if stat.S_ISLNK(now[MODE]):
            return os.readlink(here) == os.readlink(b"", dir_fd=fd)
        if attributes(below, follow=True) != attributes(here):
            return False
        return not stat.S_ISREG(now[MODE]) or _same_content(here, below)


def _is_another(was: Signature, now: Signature) -> bool:
    """Whether a folder is not the one that was there, or takes a file's place."""
    return was[INODE] != now[INODE] or was[BIRTH] != now[BIRTH]


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while piece := first.read(_COMPARED):
            if piece != second.read(_COMPARED):
                return False
        return not second.read(1)
