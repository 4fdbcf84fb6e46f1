"""Whether a zstd file is all there, which its decompressor does not tell: of a cut one it gives a part."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from minibuild.errors import LayerError
from minibuild.layers.compress import is_skippable, is_zstd

_HEADER_MAX: Final = 18  # bytes (RFC 8878, 3.1.1.1)
_RLE: Final = 1  # a block of one byte that stands for many


def check_whole(file: BinaryIO) -> None:
    """Raise `LayerError` where `file` is zstd and its last frame lacks something; its place is moved.

    From header to header, without what is between them (RFC 8878, 3.1.1). A file of another kind passes.
    """
    at, size = 0, os.fstat(file.fileno()).st_size
    while at < size:
        file.seek(at)
        head = file.read(_HEADER_MAX)
        if is_skippable(head):
            at += 8 + int.from_bytes(head[4:8], "little")
        elif is_zstd(head):
            at = _end_of_frame(file, at, head)
        else:
            return
    if at > size:
        raise _cut()


def _end_of_frame(file: BinaryIO, at: int, head: bytes) -> int:
    import zstandard

    try:
        at += zstandard.frame_header_size(head)
        checksum = 4 if zstandard.get_frame_parameters(head).has_checksum else 0
    except zstandard.ZstdError:
        raise _cut() from None
    last = 0
    while not last:
        file.seek(at)
        block = file.read(3)
        if len(block) < 3:
            raise _cut()
        header = int.from_bytes(block, "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == _RLE else length)
    return at + checksum


def _cut() -> LayerError:
    return LayerError("the zstd data is cut off")
