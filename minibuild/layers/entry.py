"""One path of a layer: what a tar header says, in plain values."""

from __future__ import annotations

from enum import StrEnum

from minibuild.values import NamedTuple


class Kind(StrEnum):
    """Entry types; the values are the tar type flags (pax(1), ustar typeflag)."""

    FILE = "0"
    HARDLINK = "1"
    SYMLINK = "2"
    CHAR = "3"
    BLOCK = "4"
    DIR = "5"
    FIFO = "6"


class Entry(NamedTuple):
    """A path with its metadata.

    `path` has no leading or trailing slash and no ``.`` or ``..`` part; the root itself is ``b""``.
    `mode` holds the permission bits with setuid, setgid and sticky (0o7777), never the type.
    `mtime_ns` may be negative. `link` is a symlink's target as written, or for a hard link the
    path (as `path`) of an entry that comes earlier in the same layer. `xattrs` are sorted by name.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
