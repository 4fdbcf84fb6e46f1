"""Unpack a layer into a folder that overlayfs takes as one of its lower directories.

Nothing is ever created, followed or removed outside the folder: paths are settled in memory by
`Layout`, and each is opened one component at a time with O_NOFOLLOW from a directory descriptor.
The folder must be empty and nobody else may change it meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from functools import partial

from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers import owners
from minibuild.layers.compress import Reader
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.folders import CREATE, Folders, write_all
from minibuild.layers.index import KEPT_FILES, KEPT_SIZE, IndexBuilder
from minibuild.layers.layout import Layout
from minibuild.layers.stream import LayerStream
from minibuild.layers.tarblocks import Body
from minibuild.layers.tarformat import show
from minibuild.layers.tarreader import TarReader
from minibuild.layers.whiteout import PREFIX

# faults of this machine, not of the layer: they go to the caller as they are
_OURS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EACCES,
}
_ALL_MODES = 0o7777
_IMPLICIT = Entry(b"", Kind.DIR, 0o755)
_MARK_OPAQUE = (b"user.overlay.opaque", b"y")
_MARK_HAS_PREFIXS = (b"user.overlay.opaque", b"x")  # whiteouts as xattrs inside (Linux 6.7)


def unpack(
    fileobj: Reader,
    media_type: str | None,
    dest: os.PathLike[str] | str,
    *,
    diff_id: Digest,
    skip_devices: bool,
    content_only: bool = False,
    record_owners: bool = False,
) -> bytearray:
    """Unpack the layer blob `fileobj` into the empty folder `dest`; returns its packed `LayerIndex`.

    Owners, modes, times and extended attributes are exact; with `content_only` owners stay ours and
    privileged attributes are left out, which needs no privileges; with `record_owners` they stay ours
    too, and the true ones are recorded as `layers.owners` has it. Devices are left out where asked
    or not permitted. Whiteouts and opaque directories take the form of overlayfs mounted with
    ``userxattr``. The folder itself is made 0755, whatever the archive says of its root, as
    containerd does. Raises `LayerError` for a bad layer or a wrong `diff_id`, `OSError` for a fault
    of the disk; `dest` is then of no use.
    """
    builder = IndexBuilder()
    with (
        LayerStream(fileobj, media_type, diff_id) as stream,
        _Unpacker(dest, builder, skip_devices or content_only, content_only, record_owners) as unpacker,
    ):
        unpacker.run(TarReader(stream))
        stream.verify()
        unpacker.finish()
    del unpacker  # what it knows of every path is not needed for the index
    return builder.dump()


class _Unpacker:
    """The folder being filled; the `Effects` of its `Layout`."""

    def __init__(
        self,
        dest: os.PathLike[str] | str,
        builder: IndexBuilder,
        skip_devices: bool,
        content_only: bool,
        record_owners: bool,
    ) -> None:
        self._dest = dest
        self._record_owners = record_owners
        self._nodes: dict[owners.Node, tuple[int, int]] = {}
        self._at = Folders(dest)
        self._builder = builder
        self._skip_devices = skip_devices
        self._content_only = content_only
        self._layout = Layout(self)
        self._folders: dict[bytes, Entry] = {}  # of directories: their metadata is set last
        self._skipped: set[bytes] = set()
        self._xattr_whiteouts: set[bytes] = set()  # parents of such
        self._ours, self._masked = _given(self._at.open(b""))
        if record_owners:
            self._masked = _ALL_MODES  # an attribute of a file that nobody may write to is refused

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._at.close()

    def run(self, members: Iterable[tuple[Entry, Body]]) -> None:
        place, add = self._layout.place, self._builder.add
        for member, body in members:
            try:
                entry = place(member)
                if entry is None:
                    continue
                add(entry)
                self._at.trim()
                self._create(entry, body)
            except OSError as error:
                if error.errno in _OURS:
                    raise
                raise _failed(member.path, error) from None

    def finish(self) -> None:
        """Set what is known of directories only when all is in them."""
        self._builder.files = {
            path: data for path, data in self._builder.files.items() if self._layout.holds_file(path)
        }
        for path in sorted(self._layout.folders, reverse=True):
            entry = self._folders.get(path, _IMPLICIT)
            marks = []
            if path in self._layout.opaque:
                marks.append(_MARK_OPAQUE)
            elif path in self._xattr_whiteouts:
                marks.append(_MARK_HAS_PREFIXS)
            self._at.trim()
            try:
                fd = self._at.open(path)
                for name, value in marks:
                    os.setxattr(fd, name, value)
                self._dress(fd, entry)
            except OSError as error:
                if error.errno in _OURS:
                    raise
                raise _failed(path, error) from None
        lines = [owners.node_line(node, owner) for node, owner in self._nodes.items()]
        owners.append(os.fspath(self._dest), lines)

    # -- Effects

    def add_folder(self, path: bytes) -> None:
        self._at.trim()
        parent, _, name = path.rpartition(b"/")
        os.mkdir(name, 0o700, dir_fd=self._at.open(parent))

    def add_whiteout(self, path: bytes) -> None:
        self._at.trim()
        parent, _, name = path.rpartition(b"/")
        folder = self._at.open(parent)
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        except PermissionError:
            fd = os.open(name, CREATE, 0o600, dir_fd=folder)
            try:
                os.setxattr(fd, b"user.overlay.whiteout", b"y")
            finally:
                os.close(fd)
            self._xattr_whiteouts.add(parent)

    def remove(self, path: bytes, folder: bool) -> None:
        self._at.trim()
        parent, _, name = path.rpartition(b"/")
        at = self._at.open(parent)
        if folder:
            self._folders.pop(path, None)
            self._xattr_whiteouts.discard(path)
            self._at.forget(path)
            os.rmdir(name, dir_fd=at)
        elif path in self._skipped:
            self._skipped.discard(path)
        else:
            os.unlink(name, dir_fd=at)

    # -- entries

    def _create(self, entry: Entry, body: Body) -> None:
        kind, path = entry.kind, entry.path
        parent, _, name = path.rpartition(b"/")
        if kind is Kind.FILE:
            if not name.startswith(PREFIX):
                self._create_file(entry, name, self._at.open(parent), body)
        elif kind is Kind.DIR:
            if path:
                with contextlib.suppress(FileExistsError):  # a parent made before its own entry came
                    os.mkdir(name, 0o700, dir_fd=self._at.open(parent))
                self._folders[path] = entry
        elif kind is Kind.HARDLINK:
            self._create_link(entry, name, self._at.open(parent))
        else:
            self._create_node(entry, name, self._at.open(parent))

    def _create_file(self, entry: Entry, name: bytes, folder: int, body: Body) -> None:
        as_made = not entry.mode & self._masked and not entry.xattrs
        fd = os.open(name, CREATE, entry.mode if as_made else 0o600, dir_fd=folder)
        try:
            if entry.path in KEPT_FILES and entry.size <= KEPT_SIZE:
                data = body.read()
                self._builder.files[entry.path] = data
                write_all(fd, data)
            elif body.sparse:
                os.ftruncate(fd, entry.size)
                for offset, piece in body.segments():
                    os.lseek(fd, offset, os.SEEK_SET)
                    write_all(fd, piece)
            else:
                body.stored(partial(write_all, fd))
            if as_made and (self._content_only or (entry.uid, entry.gid) == self._ours):
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            else:
                self._dress(fd, entry)
        finally:
            os.close(fd)

    def _create_link(self, entry: Entry, name: bytes, folder: int) -> None:
        if entry.link in self._skipped:
            self._skipped.add(entry.path)
            return
        target, _, target_name = entry.link.rpartition(b"/")
        os.link(target_name, name, src_dir_fd=self._at.open(target), dst_dir_fd=folder, follow_symlinks=False)

    def _create_node(self, entry: Entry, name: bytes, folder: int) -> None:
        """A symbolic link, fifo or device."""
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, name, dir_fd=folder)
        elif entry.kind is Kind.FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
        elif not self._create_device(entry, name, folder):
            self._skipped.add(entry.path)
            return
        if self._record_owners:
            self._record_node(entry, name, folder)
        elif not self._content_only:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(f"/proc/self/fd/{folder}/".encode() + name, entry)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _record_node(self, entry: Entry, name: bytes, folder: int) -> None:
        if (entry.uid, entry.gid) != owners.ROOT:
            node = owners.node_at(f"/proc/self/fd/{folder}/".encode() + name)
            self._nodes[node] = entry.uid, entry.gid

    def _create_device(self, entry: Entry, name: bytes, folder: int) -> bool:
        if self._skip_devices:
            return False
        form = stat.S_IFCHR if entry.kind is Kind.CHAR else stat.S_IFBLK
        try:
            os.mknod(name, form | 0o600, os.makedev(*entry.device), dir_fd=folder)
        except PermissionError:
            return False
        return True

    def _dress(self, fd: int, entry: Entry) -> None:
        """Owner, then attributes and mode: a change of owner clears capabilities and setuid."""
        if self._record_owners:
            if (entry.uid, entry.gid) != owners.ROOT:
                owners.record(fd, (entry.uid, entry.gid))
        elif not self._content_only:
            os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs:
            self._set_xattrs(fd, entry)
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _set_xattrs(self, at: int | bytes, entry: Entry) -> None:
        for name, value in entry.xattrs:
            if self._content_only and not name.startswith(b"user."):
                continue
            try:
                os.setxattr(at, name, value, follow_symlinks=isinstance(at, int))
            except OSError as error:
                needed = name == b"security.capability"
                if needed or error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                    raise LayerError(
                        f"cannot set the attribute {show(name)} of {show(entry.path)}: {error.strerror}",
                        cure="Keep the store on a filesystem with extended attributes (ext4, xfs, btrfs).",
                    ) from None


def _given(root: int) -> tuple[tuple[int, int] | None, int]:
    """What a new file below the open folder `root` gets: owner (None for unsure), modes that it may not."""
    info = os.fstat(root)
    owner = os.geteuid(), os.getegid()
    inherits = info.st_mode & stat.S_ISGID or (info.st_uid, info.st_gid) != owner
    try:
        os.getxattr(root, "system.posix_acl_default")
        masked = _ALL_MODES
    except OSError:
        masked = _umask() | 0o7000
    return None if inherits else owner, masked


def _umask() -> int:
    """Ours; asked for in a way that does not set it, as other threads make files."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return _ALL_MODES


def _failed(path: bytes, error: OSError) -> LayerError:
    cure = ""
    if error.errno in (errno.EPERM, errno.EINVAL):
        cure = "Give this user enough subordinate ids in /etc/subuid and /etc/subgid for the image's owners."
    return LayerError(f"cannot unpack the layer's entry {show(path)}: {error.strerror}", cure=cure)
