"""Write files into a folder of the caller's, which may hold anything: the disk side of `merge`."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.folders import CREATE, FOLDER, Folders, write_all
from minibuild.layers.tarblocks import Body

_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP)
_OCCUPIED = (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
_TEMPORARY = b".minibuild-merge"


class FolderWriter:
    """The folder `dest`. Every path is opened from its root, and no link in it is followed."""

    def __init__(self, dest: Path, *, owners: bool, mtime_ns: int | None) -> None:
        self._at = Folders(dest)
        self._owners = owners
        self._mtime_ns = mtime_ns
        self.left_out: list[bytes] = []

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._at.close()

    def add_folder(self, path: bytes) -> None:
        """Have a directory at `path` that we can write to; its parent is there."""
        self._at.trim()
        parent, _, name = path.rpartition(b"/")
        at = self._at.open(parent)
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            info = os.stat(name, dir_fd=at, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                os.unlink(name, dir_fd=at)
                os.mkdir(name, 0o700, dir_fd=at)
            elif info.st_mode & 0o700 != 0o700:
                os.chmod(name, stat.S_IMODE(info.st_mode) | 0o700, dir_fd=at)

    def add(self, entry: Entry, paths: Sequence[bytes], body: Body) -> None:
        """Put one file, link or node at all of `paths`."""
        self._at.trim()
        parent, _, name = paths[0].rpartition(b"/")
        at = self._at.open(parent)
        try:
            made = self._replace(at, name, lambda free: self._make(entry, at, free, body))
        except PermissionError:
            if entry.kind is not Kind.CHAR and entry.kind is not Kind.BLOCK:
                raise
            self.left_out.extend(paths)
            return
        for path in paths[1:]:
            other, _, link = path.rpartition(b"/")
            self._link(at, made, self._at.open(other), link)

    def finish_folder(self, path: bytes, entry: Entry) -> None:
        """Set the directory's metadata; nothing is put into it afterwards."""
        self._at.trim()
        self._dress(self._at.open(path), entry)

    def remove_others(self, path: bytes, names: Collection[bytes]) -> None:
        """Remove what is in the directory `path` and not among `names`."""
        self._at.trim()
        at = self._at.open(path)
        for name in {os.fsencode(name) for name in os.listdir(at)}.difference(names):
            _remove(at, name)

    # -- one path

    def _replace(self, at: int, name: bytes, make: Callable[[bytes], None]) -> bytes:
        """Call `make` with a name that is free, and have the result at `name`."""
        try:
            make(name)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                _remove(at, _TEMPORARY)
            make(_TEMPORARY)
            try:
                os.rename(_TEMPORARY, name, src_dir_fd=at, dst_dir_fd=at)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
                _remove(at, name)
                os.rename(_TEMPORARY, name, src_dir_fd=at, dst_dir_fd=at)
        return name

    def _link(self, source: int, target: bytes, at: int, name: bytes) -> None:
        def make(free: bytes) -> None:
            os.link(target, free, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)

        self._replace(at, name, make)

    def _make(self, entry: Entry, at: int, name: bytes, body: Body) -> None:
        kind = entry.kind
        if kind is Kind.FILE:
            fd = os.open(name, CREATE, 0o600, dir_fd=at)
            try:
                self._fill(fd, entry, body)
                self._dress(fd, entry)
            finally:
                os.close(fd)
            return
        if kind is Kind.SYMLINK:
            os.symlink(entry.link, name, dir_fd=at)
        elif kind is Kind.FIFO:
            os.mkfifo(name, 0o600, dir_fd=at)
        else:
            form = stat.S_IFCHR if kind is Kind.CHAR else stat.S_IFBLK
            os.mknod(name, form | 0o600, os.makedev(*entry.device), dir_fd=at)
        if self._owners:
            with _as_far_as_allowed():
                os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        if kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=at)
        os.utime(name, ns=self._times(entry), dir_fd=at, follow_symlinks=False)

    def _fill(self, fd: int, entry: Entry, body: Body) -> None:
        at = 0
        for offset, piece in body.segments():
            if offset != at:
                os.lseek(fd, offset, os.SEEK_SET)
            write_all(fd, piece)
            at = offset + len(piece)
        if at != entry.size:
            os.ftruncate(fd, entry.size)

    def _dress(self, fd: int, entry: Entry) -> None:
        if self._owners:
            with _as_far_as_allowed():
                os.fchown(fd, entry.uid, entry.gid)
        for name, value in entry.xattrs:
            with _as_far_as_allowed():
                os.setxattr(fd, name, value)
        mode = entry.mode
        if mode & 0o6000:  # what ran as somebody else must not come to run as root
            info = os.fstat(fd)
            if info.st_uid == 0 != entry.uid:
                mode &= ~0o4000
            if info.st_gid == 0 != entry.gid:
                mode &= ~0o2000
        os.fchmod(fd, mode)
        os.utime(fd, ns=self._times(entry))

    def _times(self, entry: Entry) -> tuple[int, int]:
        mtime = entry.mtime_ns if self._mtime_ns is None else self._mtime_ns
        return mtime, mtime


@contextlib.contextmanager
def _as_far_as_allowed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise


def _remove(at: int, name: bytes) -> None:
    """Remove whatever is at `name` in the directory `at`, with all below it; follows nothing."""
    if _unlink(at, name):
        return
    stack = [(at, name, _open_to_empty(at, name))]
    try:
        while stack:
            parent, name, fd = stack[-1]
            for child in map(os.fsencode, os.listdir(fd)):
                if not _unlink(fd, child):
                    stack.append((fd, child, _open_to_empty(fd, child)))
                    break
            else:
                os.close(fd)
                stack.pop()
                os.rmdir(name, dir_fd=parent)
    finally:
        for _, _, fd in stack:
            os.close(fd)


def _unlink(at: int, name: bytes) -> bool:
    """Remove what is at `name`; False where that is a directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=at)
    return True


def _open_to_empty(at: int, name: bytes) -> int:
    """Open the directory `name`, made such that its owner may remove what is in it."""
    info = os.stat(name, dir_fd=at, follow_symlinks=False)
    if info.st_mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=at)
    return os.open(name, FOLDER, dir_fd=at)
