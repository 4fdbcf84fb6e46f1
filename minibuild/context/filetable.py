"""What the files of a context folder were when they were last hashed: 56 bytes a file, loaded in one go.

    magic "mbft", version (u32)
    rows: xxh3_64 of the path, xxh3_128 of path and stamp, SHA-256 of the content

A later row of a path takes the place of an earlier one.
"""

from __future__ import annotations

import struct
from typing import Final

import xxhash

_HEAD: Final = b"mbft\1\0\0\0"
_ROW: Final = struct.Struct("8s48s")
_STAMP: Final = 16


class FileTable:
    """SHA-256 by path and stamp (see `Row`); what was noted since it was loaded is `fresh`."""

    def __init__(self, data: bytes | None = None) -> None:
        self.fresh = bytearray()
        self._taken = 0  # how much of it is among the rows
        self._rows: dict[bytes, bytes] = {}
        if data is not None and data.startswith(_HEAD) and not (len(data) - len(_HEAD)) % _ROW.size:
            self._rows = dict(_ROW.iter_unpack(memoryview(data)[len(_HEAD) :]))

    def _known(self) -> dict[bytes, bytes]:
        if self._taken < len(self.fresh):
            with memoryview(self.fresh) as fresh:
                self._rows.update(_ROW.iter_unpack(fresh[self._taken :]))
            self._taken = len(self.fresh)
        return self._rows

    def __bool__(self) -> bool:
        return bool(self._rows or self.fresh)

    def __contains__(self, path: bytes) -> bool:
        return xxhash.xxh3_64_digest(path) in self._known()

    def get(self, path: bytes, stamp: bytes) -> str | None:
        """The SHA-256 (hex) of the file at `path`, if it was hashed when its stamp was this one."""
        row = self._known().get(xxhash.xxh3_64_digest(path))
        if row is None or row[:_STAMP] != _mark(path, stamp):
            return None
        return row[_STAMP:].hex()

    def note(self, path: bytes, stamp: bytes, digest: str) -> None:
        """The file at `path` had this SHA-256 (hex) when its stamp was this one."""
        self.fresh += xxhash.xxh3_64_digest(path) + _mark(path, stamp) + bytes.fromhex(digest)

    def merged(self, data: bytes | None) -> bytes:
        """The table `data` with what was noted here."""
        before = FileTable(data)._rows
        if not before:
            return _HEAD + self.fresh
        before.update(_ROW.iter_unpack(self.fresh))
        return _HEAD + b"".join([key + row for key, row in before.items()])


def _mark(path: bytes, stamp: bytes) -> bytes:
    return xxhash.xxh3_128_digest(path + b"\0" + stamp)
