"""True owners of files that all belong to one user on disk, as in a user namespace of a single id.

A file's or folder's owner is kept in an attribute of the inode, which copy-up, rename and ``cp -a``
carry along. A link or a pipe cannot have one: a table beside the root folder (``ROOT.owners``) has
them by inode number and time of birth, because numbers are used again. What neither names belongs to
root. Only light modules are imported here: the sandbox's holder loads this at its start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ATTRIBUTE = b"user.minibuild.owner"
ROOT = (0, 0)

# Inode number, and time of birth in nanoseconds.
Node = tuple[int, int]

_BIRTH = 0x800  # STATX_BTIME
_libc = ctypes.CDLL(None)
_statx = getattr(_libc, "statx", None)
_buffer = ctypes.create_string_buffer(256)


def birth(path: bytes, fd: int = -100) -> int:
    """When the inode at `path`, itself and not what it links to, was made: nanoseconds; 0 for unknown.

    With `fd` the path is relative to it, and b"" is the file that it is open on.
    """
    # AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH
    if _statx is None or _statx(fd, path, 0x1100, _BIRTH, _buffer):
        return 0
    raw = _buffer.raw
    if not int.from_bytes(raw[:4], "little") & _BIRTH:
        return 0
    seconds = int.from_bytes(raw[80:88], "little", signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(raw[88:92], "little")


def table_of(root: str) -> str:
    """Where the table of the unpacked layer in the folder `root` is, or would be."""
    return f"{root}.owners"


def to_value(uid: int, gid: int) -> bytes:
    """The attribute's value."""
    return b"%d:%d" % (uid, gid)


def from_value(value: bytes) -> tuple[int, int] | None:
    """User and group of an attribute's value; None for one that is not ours."""
    uid, colon, gid = value.partition(b":")
    if not colon or not (uid.isdigit() and gid.isdigit()) or len(value) > 24:
        return None
    return int(uid), int(gid)


def recorded(path: str) -> tuple[int, int] | None:
    """The owner recorded on the file or folder at `path`, a link in which is followed."""
    try:
        return from_value(os.getxattr(path, ATTRIBUTE))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def record(at: int | str, owner: tuple[int, int]) -> None:
    """Record the owner of a file or folder; file systems without attributes forget it."""
    try:
        if owner != ROOT:
            os.setxattr(at, ATTRIBUTE, to_value(*owner))
            return
        os.removexattr(at, ATTRIBUTE)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def is_node(mode: int) -> bool:
    """Whether an inode of this mode can have no attribute of ours."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class Table:
    """What the table file of one unpacked layer says: lines that only get more, the last one counts."""

    def __init__(self) -> None:
        self.nodes: dict[Node, tuple[int, int]] = {}
        # Files that were given to root though they seemed to be root's: see `Reader`.
        self.kept: set[int] = set()
        # Whom a new file belongs to that nobody gave away: the user of the step that made the layer.
        self.user = ROOT

    @classmethod
    def load(cls, root: str) -> Table:
        """The table of the layer in the folder `root`; an empty one where there is none."""
        table = cls()
        try:
            with open(table_of(root), "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return table
        for line in lines:
            parts = line.split(b" ")
            if parts[0] == b"user" and len(parts) == 3:
                table.user = int(parts[1]), int(parts[2])
            elif parts[0] == b"node" and len(parts) == 5:
                table.nodes[int(parts[1]), int(parts[2])] = int(parts[3]), int(parts[4])
            elif parts[0] == b"kept":
                table.kept.update(map(int, parts[1:]))
        return table


class Reader:
    """Tells the true owners of files in the layer in `upper`, and in those below it."""

    def __init__(self, upper: str, lowers: Iterable[str]) -> None:
        own = Table.load(upper)
        self._kept = own.kept
        self._nodes: dict[Node, tuple[int, int]] = {}
        for folder in lowers:
            self._nodes.update(Table.load(folder).nodes)
        self._nodes.update(own.nodes)
        self._numbers = {number for number, _ in self._nodes}

    def owner(
        self, info: os.stat_result, xattrs: Mapping[bytes, bytes], path: bytes, below: bytes | None
    ) -> tuple[int, int]:
        """The owner of the inode at `path` with these attributes; `below` is what it replaces.

        Programs that write a file anew give it to whom they saw the old one belong to, which was root
        (useradd does so with /etc/shadow): what they meant is that it keeps its owner.
        """
        value = xattrs.get(ATTRIBUTE)
        if value is not None:
            return from_value(value) or ROOT
        if is_node(info.st_mode):
            if info.st_ino not in self._numbers:
                return ROOT
            return self._nodes.get((info.st_ino, birth(path)), ROOT)
        if info.st_ino not in self._kept:
            return ROOT
        owner = recorded(os.fsdecode(below)) if below is not None else None
        if owner is None and path[-1:] in (b"-", b"~") and os.path.isfile(path[:-1]):
            owner = recorded(os.fsdecode(path[:-1]))  # a backup, made in the same way
        if owner is None:
            return ROOT
        record(os.fsdecode(path), owner)  # the next step has this layer below it
        return owner


def node_line(node: Node, owner: tuple[int, int]) -> bytes:
    """A line of the table."""
    return b"node %d %d %d %d\n" % (*node, *owner)


def kept_line(numbers: Iterable[int]) -> bytes:
    """The line of the table that names the inodes of `Table.kept`."""
    return b"kept " + b" ".join(b"%d" % number for number in numbers) + b"\n"


def user_line(uid: int, gid: int) -> bytes:
    """The line of the table that names the step's user."""
    return b"user %d %d\n" % (uid, gid)


def append(root: str, lines: Iterable[bytes]) -> None:
    """Add lines to the table of the layer in the folder `root`."""
    data = b"".join(lines)
    if not data:
        return
    fd = os.open(table_of(root), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def node_at(path: bytes) -> Node:
    """The inode at `path` as the table names it; a link is not followed."""
    return os.lstat(path).st_ino, birth(path)


def settle(upper: str, lower: str | None, user: tuple[int, int]) -> None:
    """Record `user` as the owner of all that a step run by an ordinary user has made in `upper`.

    What is also in `lower` under the same name, and belonged to root, was copied up and keeps its owner.
    """
    lines: list[bytes] = []
    known = Table.load(upper).nodes
    for folder, folders, files in os.walk(os.fsencode(upper)):
        below = None if lower is None else os.fsencode(lower) + folder[len(os.fsencode(upper)) :]
        for name in (*folders, *files):
            _settle_one(folder + b"/" + name, below and below + b"/" + name, user, known, lines)
    append(upper, lines)


def _settle_one(
    path: bytes,
    below: bytes | None,
    user: tuple[int, int],
    known: Mapping[Node, tuple[int, int]],
    lines: list[bytes],
) -> None:
    info = os.lstat(path)
    if stat.S_ISCHR(info.st_mode):
        return  # a whiteout: devices cannot be made here
    if is_node(info.st_mode):
        node = node_at(path)
        if node not in known and not (below and os.path.lexists(below)):
            lines.append(node_line(node, user))
        return
    if recorded(os.fsdecode(path)) is not None:
        return
    if below:
        try:
            lower = os.lstat(below)
            same_kind = stat.S_IFMT(lower.st_mode) == stat.S_IFMT(info.st_mode)
            if same_kind and recorded(os.fsdecode(below)) is None:
                return
        except OSError:
            pass  # nothing there
    os.setxattr(path, ATTRIBUTE, to_value(*user))
