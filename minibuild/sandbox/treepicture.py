"""What a folder holds, path by path in one order, and a picture of it to compare with later.

Little of either is held in memory, whatever the number of files.
"""

from __future__ import annotations

import os
import stat
from itertools import islice

from minibuild.layers import names, owners
from minibuild.layers.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Inode, mode, user, group, size, times of content and of the inode (ns), device number, links, and of a
# folder when it was made (ns): one that takes another's place may be given its inode.
Signature = tuple[int, int, int, int, int, int, int, int, int, int]
Seen = tuple[bytes, Signature]  # of a path

INODE, MODE, UID, GID, SIZE, MTIME, CTIME, DEVICE, LINKS, BIRTH = range(10)

HELD = 10_000
"""Paths of a picture that are held; some 6 MB."""
_AT_ONCE = 200  # that are written and read together


def walk(tree: bytes, room: str) -> Iterator[Seen]:
    """All that is in `tree` by relative path, parents first, siblings by their bytes.

    Each takes some 5 microseconds. The names of a huge folder pass through a file without a name in `room`.
    """
    inside = tree + b"/"
    folders = [(b"", _listed(inside, room))]
    while folders:
        folder, rest = folders[-1]
        for name in rest:
            path = folder + name
            info = os.lstat(inside + path)
            is_folder = stat.S_ISDIR(info.st_mode)
            signature = (
                info.st_ino,
                info.st_mode,
                info.st_uid,
                info.st_gid,
                info.st_size,
                info.st_mtime_ns,
                info.st_ctime_ns,
                info.st_rdev,
                info.st_nlink,
                owners.birth(inside + path) if is_folder else 0,
            )
            yield path, signature
            if is_folder:
                folders.append((path + b"/", _listed(inside + path, room)))
                break
        else:
            folders.pop()


def _listed(folder: bytes, room: str) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        return names.in_order((entry.name for entry in entries), room)


def comes_before(one: bytes, other: bytes) -> bool:
    """Whether a walk comes to the path `one` before `other`."""
    return one.replace(b"/", b"\0") < other.replace(b"/", b"\0")


class Picture:
    """What was seen, to be gone through again; what is not `held` is in a file without a name in `room`."""

    def __init__(self, seen: Iterable[Seen], room: str, *, held: int = HELD) -> None:
        def scratch() -> int:
            import tempfile  # only a large tree needs it

            with tempfile.TemporaryFile(dir=room) as file:
                return os.dup(file.fileno())

        rest = iter(seen)
        self._held = list(islice(rest, held))
        self._spool = Spool(scratch)
        while block := list(islice(rest, _AT_ONCE)):
            self._spool.put(block)

    def __iter__(self) -> Iterator[Seen]:
        yield from self._held
        for block in self._spool.values(0, self._spool.end):
            yield from block
