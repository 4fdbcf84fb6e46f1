"""Files that share their blocks on the disk, where the file system can: btrfs, and xfs made with reflink.

The kernel compares the bytes before it shares them (ioctl_fideduperange(2)), so what is shared is equal;
inodes, times and owners stay as they are, and a file that is written to later gets blocks of its own.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

BLOCK = 4096
"""Smaller files are not worth sharing, and some file systems keep them in the inode."""

_DEDUPE = 0xC0189436  # FIDEDUPERANGE
_RANGE = struct.Struct("=QQHHI")  # source offset and length, number of targets, reserved
_TARGET = struct.Struct("=qQQiI")  # descriptor, offset, bytes shared, status, reserved
_STEP = 16 << 20  # btrfs shares no more at once

_FIEMAP = 0xC020660B
_MAP = struct.Struct("=QQIIII")  # start, length, flags, extents found, room for extents, reserved
_EXTENT = struct.Struct("=QQQQQIIII")  # logical, physical, length, reserved, flags, reserved
_ROOM = 64
_SYNC, _LAST, _NOT_ALIGNED = 0x1, 0x1, 0x100


def share(source: int, target: int, size: int) -> int:
    """Have `target` use the blocks of `source` where both hold the same; how many of `size` bytes do.

    Both are descriptors of files of `size` bytes. Raises `OSError` where the file system cannot.
    """
    done = 0
    while done < size:
        length = min(_STEP, size - done)
        request = bytearray(_RANGE.pack(done, length, 1, 0, 0) + _TARGET.pack(target, done, 0, 0, 0))
        fcntl.ioctl(source, _DEDUPE, request)
        _, _, shared, status, _ = _TARGET.unpack_from(request, _RANGE.size)
        if status < 0:
            raise OSError(-status, os.strerror(-status))
        if status or not shared:  # their bytes differ
            break
        done += shared
    return done


def blocks(fd: int) -> tuple[tuple[int, int, int], ...] | None:
    """Where the file lies on the disk: (place in the file, on the disk, length), neighbours joined.

    Files with equal blocks are equal. None where it has no blocks of its own. Raises `OSError`.
    """
    found: list[tuple[int, int, int]] = []
    start = 0
    while True:
        request = bytearray(_MAP.pack(start, (1 << 63) - 1 - start, _SYNC, 0, _ROOM, 0) + bytes(56 * _ROOM))
        fcntl.ioctl(fd, _FIEMAP, request)
        count = _MAP.unpack_from(request)[3]
        flags = _LAST
        for number in range(count):
            row = _EXTENT.unpack_from(request, _MAP.size + number * _EXTENT.size)
            logical, physical, length, flags = row[0], row[1], row[2], row[5]
            if flags & _NOT_ALIGNED:
                return None
            if found and (logical, physical) == (found[-1][0] + found[-1][2], found[-1][1] + found[-1][2]):
                logical, physical, before = found.pop()
                length += before
            found.append((logical, physical, length))
            start = logical + length
        if flags & _LAST:
            return tuple(found)


def can_share(folder: Path) -> bool:
    """Whether files in `folder` can share blocks: tried out with two that are removed again."""
    paths = [folder / f"share-{number}" for number in range(2)]
    try:
        for path in paths:
            path.write_bytes(b"x" * BLOCK)
        with paths[0].open("rb") as source, paths[1].open("r+b") as target:
            return share(source.fileno(), target.fileno(), BLOCK) == BLOCK
    except OSError:
        return False
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
