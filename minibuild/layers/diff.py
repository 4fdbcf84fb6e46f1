"""The upper directory of an overlay, as the entries of a layer.

What is written is what BuildKit writes, with these differences: a folder emptied and filled anew is
marked opaque instead of listing what went; user attributes are kept; a link to a lower file stays a
link. As there, a changed entry brings its parent folders along, and a folder whose time alone has
changed is no change.
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Final

from minibuild.errors import LayerError
from minibuild.layers import names
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.whiteout import OVERLAY_OPAQUE, OVERLAY_XATTRS, PREFIX, opaque, whiteout
from minibuild.layers.writer import LayerWriter
from minibuild.values import NamedTuple

OWN_XATTRS: Final = b"user.minibuild."

_FILE: Final = Kind.FILE
_DIR: Final = Kind.DIR
_NO_XATTRS: Final[Mapping[bytes, bytes]] = {}
_FILE_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DIR_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
# each level holds two descriptors open; 1,024 are the usual limit
_DEEPEST: Final = 400
_COMPARED: Final = 1 << 20
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFDIR: Kind.DIR,
}
_DEVICES: Final = (Kind.CHAR, Kind.BLOCK)
_READ_XATTRS: Final = (b"user.", b"security.capability", *OVERLAY_XATTRS)
_DROPPED_XATTRS: Final = (OWN_XATTRS, *OVERLAY_XATTRS)
_UNUSABLE_XATTRS: Final = tuple(
    prefix + name for prefix in OVERLAY_XATTRS for name in (b"redirect", b"metacopy")
)

# Attributes of an inode, extended ones among them, its path and that of what it replaces; user and group.
Owner = Callable[[os.stat_result, Mapping[bytes, bytes], bytes, bytes | None], tuple[int, int]]


class DiffResult(NamedTuple):
    """`entries` counts what was written; `skipped` are the sockets, which no layer can hold."""

    entries: int
    skipped: tuple[bytes, ...]


def diff(
    upper: os.PathLike[str] | str,
    lower: os.PathLike[str] | str | None,
    writer: LayerWriter,
    *,
    ignore: Collection[bytes] = (),
    owner: Owner | None = None,
    piece: int = names.PIECE,
) -> DiffResult:
    """Write what `upper` changes of `lower`, parents first, siblings by their bytes.

    `lower` shows the merged tree below, read only; None stands for an empty one of which nothing is
    known, so every deletion is written. `ignore` are paths (as `Entry.path`) of mount points made for
    the run: an empty file there is left out, a folder unless it has come to hold something.
    `owner(stat, xattrs, path, below)` gives user and group where they are not the inode's own; it sees the
    attributes under ``user.minibuild.`` too. Of a folder with more than `piece` names some pass through
    a file beside `upper`. Raises `LayerError` for what a layer cannot say, and what `LayerWriter.add` raises.
    """
    listed = partial(names.listed, room=os.path.dirname(os.path.abspath(upper)), piece=piece)
    walk = _Walk(writer, frozenset(ignore), owner, lower is not None, listed)
    try:
        walk.enter(_Folder(b"", os.open(upper, _DIR_FLAGS), 0))
        if lower is not None:
            walk.stack[0].lower_fd = os.open(lower, _DIR_FLAGS)
        walk.run()
    finally:
        for folder in walk.stack:
            folder.close()
    return DiffResult(walk.entries, tuple(walk.skipped))


class _Folder:
    """An open folder of the upper directory, and its lower self where that still shows."""

    __slots__ = ("children", "fd", "lower_fd", "path", "waiting")

    def __init__(self, path: bytes, fd: int, waiting: int) -> None:
        self.path = path
        self.fd = fd
        self.lower_fd: int | None = None
        self.waiting = waiting  # how many unchanged parents wait above it
        self.children: Iterator[bytes] = iter(())

    def close(self) -> None:
        os.close(self.fd)
        if self.lower_fd is not None:
            os.close(self.lower_fd)


class _Place(NamedTuple):
    """One name of the upper directory, and what the lower tree has there."""

    path: bytes
    name: bytes
    stat: os.stat_result
    dir_fd: int
    lower: os.stat_result | None
    lower_fd: int | None


class _Walk:
    def __init__(
        self,
        writer: LayerWriter,
        ignore: frozenset[bytes],
        owner: Owner | None,
        lower_known: bool,
        listed: Callable[[int], Iterator[bytes]],
    ) -> None:
        self.entries = 0
        self.skipped: list[bytes] = []
        self._writer = writer
        self._ignore = ignore
        self._owner = owner
        self._lower_known = lower_known
        self._listed = listed
        # by device and inode, the first of several names and what its entry said of it, packed
        self._links: dict[int, bytes] = {}
        self._waiting: list[Entry] = []  # unchanged parents, written once something below is
        self.stack: list[_Folder] = []  # the caller closes what is left of it

    def enter(self, folder: _Folder) -> None:
        """Go down into an open folder."""
        self.stack.append(folder)
        folder.children = self._listed(folder.fd)

    def run(self) -> None:
        """Walk until every folder on the stack is done."""
        while self.stack:
            folder = self.stack[-1]
            # going down puts another folder on top: come back to this one's rest later
            for name in folder.children:
                self._place(_placed(folder, name))
                if self.stack[-1] is not folder:
                    break
            else:
                del self._waiting[folder.waiting :]
                self.stack.pop().close()

    def _place(self, place: _Place) -> None:
        info = place.stat
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            self._folder(place)
        elif kind == stat.S_IFSOCK:
            self.skipped.append(place.path)
            if place.lower is not None:
                self._emit(whiteout(place.path))
        elif kind == stat.S_IFCHR and info.st_rdev == 0:
            # none where the lower tree has nothing, as after creating and deleting
            if place.lower is not None or not self._lower_known:
                self._emit(whiteout(place.path))
        elif kind != stat.S_IFREG:
            self._node(place)
        elif info.st_size or place.path not in self._ignore:
            self._file(place)

    def _folder(self, place: _Place) -> None:
        if len(self.stack) > _DEEPEST:
            raise LayerError(
                f"{os.fsdecode(place.path)} is nested more than {_DEEPEST} folders deep",
                cure="Have the step make fewer folders inside each other.",
            )
        fd = os.open(place.name, _DIR_FLAGS, dir_fd=place.dir_fd)
        folder = _Folder(place.path, fd, len(self._waiting))
        self.enter(folder)
        xattrs = _xattrs(fd, place.path)
        entry = self._entry(place, xattrs)
        unchanged = place.path in self._ignore
        if place.lower is not None and stat.S_ISDIR(place.lower.st_mode):
            folder.lower_fd = os.open(place.name, _DIR_FLAGS, dir_fd=place.lower_fd)
            unchanged = self._same_metadata(entry, place, _xattrs(folder.lower_fd, place.path))
        if unchanged:
            self._waiting.append(entry)
        else:
            self._emit(entry)
        if any(xattrs.get(name) == b"y" for name in OVERLAY_OPAQUE):
            self._opaque(folder)

    def _opaque(self, folder: _Folder) -> None:
        lower_fd, folder.lower_fd = folder.lower_fd, None
        holds_anything = False
        if lower_fd is not None:
            with os.scandir(lower_fd) as listing:
                holds_anything = next(listing, None) is not None
            os.close(lower_fd)
        if holds_anything or not self._lower_known:
            self._emit(opaque(folder.path))

    def _file(self, place: _Place) -> None:
        if self._linked(place):
            return
        fd = os.open(place.name, _FILE_FLAGS, dir_fd=place.dir_fd)
        try:
            entry = self._entry(place, _xattrs(fd, place.path))
            if not self._same_file(entry, place, fd):
                self._emit(entry, fd)
        finally:
            os.close(fd)

    def _node(self, place: _Place) -> None:
        """A link, a device or a pipe."""
        if self._linked(place):
            return
        entry = self._entry(place, _xattrs(_through_proc(place.dir_fd, place.name), place.path))
        if place.lower is None or place.lower_fd is None or place.stat.st_nlink > 1:
            return self._emit(entry)
        lower_xattrs = _xattrs(_through_proc(place.lower_fd, place.name), place.path)
        same = self._same_metadata(entry, place, lower_xattrs) and _same_times(place)
        if not same or entry.link != _link_at(place.name, place.lower_fd, entry.kind):
            self._emit(entry)

    def _linked(self, place: _Place) -> bool:
        """Whether this is another name of an inode already written; then writes the link."""
        info = place.stat
        first = self._links.get(_inode(info)) if info.st_nlink > 1 else None
        if first is None:
            return False
        path, mode, uid, gid, mtime_ns = marshal.loads(first)
        self._emit(Entry(place.path, Kind.HARDLINK, mode, uid, gid, 0, mtime_ns, path))
        return True

    def _entry(self, place: _Place, xattrs: Mapping[bytes, bytes]) -> Entry:
        info = place.stat
        kind = _KINDS[stat.S_IFMT(info.st_mode)]
        uid, gid = info.st_uid, info.st_gid
        if self._owner:
            path = _through_proc(place.dir_fd, place.name)
            lower_fd = place.lower_fd if place.lower is not None else None
            below = None if lower_fd is None else _through_proc(lower_fd, place.name)
            uid, gid = self._owner(info, xattrs, path, below)
        entry = Entry(
            place.path,
            kind,
            stat.S_IMODE(info.st_mode),
            uid,
            gid,
            info.st_size if kind is _FILE else 0,
            info.st_mtime_ns,
            _link_at(place.name, place.dir_fd, kind),
            (os.major(info.st_rdev), os.minor(info.st_rdev)) if kind in _DEVICES else (0, 0),
            _kept(xattrs),
        )
        if info.st_nlink > 1 and kind is not _DIR:
            said = (entry.path, entry.mode, uid, gid, entry.mtime_ns)
            self._links[_inode(info)] = marshal.dumps(said)
        return entry

    def _same_metadata(self, entry: Entry, place: _Place, lower_xattrs: Mapping[bytes, bytes]) -> bool:
        lower = place.lower
        assert lower is not None
        owner = (lower.st_uid, lower.st_gid)
        if self._owner and place.lower_fd is not None:
            owner = self._owner(lower, lower_xattrs, _through_proc(place.lower_fd, place.name), None)
        return (
            lower.st_mode == place.stat.st_mode
            and owner == (entry.uid, entry.gid)
            and lower.st_rdev == place.stat.st_rdev
            and _kept(lower_xattrs) == entry.xattrs
        )

    def _same_file(self, entry: Entry, place: _Place, fd: int) -> bool:
        """Whether the file was copied up and left as it was."""
        if place.lower is None or place.stat.st_nlink > 1 or not _same_times(place):
            return False
        if not stat.S_ISREG(place.lower.st_mode):
            return False
        lower = os.open(place.name, _FILE_FLAGS, dir_fd=place.lower_fd)
        try:
            same = self._same_metadata(entry, place, _xattrs(lower, place.path))
            return same and _same_content(fd, lower)
        finally:
            os.close(lower)

    def _emit(self, entry: Entry, fd: int | None = None) -> None:
        for parent in self._waiting:
            self._writer.add(parent)
        self.entries += len(self._waiting) + 1
        self._waiting.clear()
        self._writer.add(entry, fd)


def _placed(folder: _Folder, name: bytes) -> _Place:
    path = folder.path + b"/" + name if folder.path else name
    if name.startswith(PREFIX):
        raise LayerError(
            f"a layer cannot hold {os.fsdecode(path)}: names that begin with .wh. mean deletions",
            cure="Have the step give the file another name, or remove it.",
        )
    lower = None
    if folder.lower_fd is not None:
        with contextlib.suppress(FileNotFoundError):
            lower = os.stat(name, dir_fd=folder.lower_fd, follow_symlinks=False)
    info = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    return _Place(path, name, info, folder.fd, lower, folder.lower_fd)


def _inode(info: os.stat_result) -> int:
    return info.st_dev << 64 | info.st_ino


def _same_times(place: _Place) -> bool:
    lower = place.lower
    return (
        lower is not None
        and lower.st_size == place.stat.st_size
        and lower.st_mtime_ns == place.stat.st_mtime_ns
    )


def _same_content(one: int, other: int) -> bool:
    offset = 0
    while piece := os.pread(one, _COMPARED, offset):
        if piece != os.pread(other, len(piece), offset):
            return False
        offset += len(piece)
    return True


def _link_at(name: bytes, dir_fd: int, kind: Kind) -> bytes:
    return os.readlink(name, dir_fd=dir_fd) if kind is Kind.SYMLINK else b""


def _through_proc(dir_fd: int, name: bytes) -> bytes:
    # there is no call that reads attributes of a link below a directory descriptor
    return b"/proc/self/fd/%d/%b" % (dir_fd, name)


def _xattrs(file: int | bytes, path: bytes) -> Mapping[bytes, bytes]:
    """The attributes that say something: not those of security modules and access control lists.

    They belong to the machine (labels, inherited lists), and most runtimes cannot restore them.
    """
    follow = isinstance(file, int)
    try:
        listed = os.listxattr(file, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return _NO_XATTRS
        raise
    if not listed:
        return _NO_XATTRS
    found = {}
    for name in map(os.fsencode, listed):
        if name in _UNUSABLE_XATTRS:
            raise LayerError(
                f"{os.fsdecode(path)} holds a redirection of the overlay file system, not its content",
                cure="Mount with redirect_dir=off and metacopy=off.",
            )
        if name.startswith(_READ_XATTRS):
            found[name] = os.getxattr(file, name, follow_symlinks=follow)
    return found


def _kept(xattrs: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    if not xattrs:
        return ()
    return tuple(sorted(pair for pair in xattrs.items() if not pair[0].startswith(_DROPPED_XATTRS)))
