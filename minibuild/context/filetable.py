"""What the files of a context folder were when they were last hashed: 56 bytes a file, loaded in one go.

    magic "mbft", version (u32), little-endian as all numbers
    rows: xxh3_64 of the path, xxh3_128 of path and stamp, SHA-256 of the content

A later row of a path takes the place of an earlier one.
"""

from __future__ import annotations

import struct
from typing import Final

import xxhash

_HEAD: Final = b"mbft\2\0\0\0"
_SIZE: Final = 56
_KEY: Final = struct.Struct("<Q48x")
_MARK: Final = slice(8, 24)
_DIGEST: Final = slice(24, _SIZE)


class FileTable:
    """SHA-256 by path and stamp (see `Row`); about 150 bytes of memory a file."""

    def __init__(self, data: bytes | None = None) -> None:
        known = data is not None and data.startswith(_HEAD) and not (len(data) - len(_HEAD)) % _SIZE
        self._rows = bytearray(data[len(_HEAD) :] if known and data is not None else b"")
        self._loaded = len(self._rows)  # what follows was noted since
        self._numbers: dict[int, int] = {}
        self._numbered = 0

    def _number(self, path: bytes) -> int | None:
        """The latest row of `path`."""
        if self._numbered < len(self._rows):  # not at once: one who only notes needs no numbers
            first = self._numbered // _SIZE
            with memoryview(self._rows) as rows, rows[self._numbered :] as new:
                self._numbers.update((key, row) for row, (key,) in enumerate(_KEY.iter_unpack(new), first))
            self._numbered = len(self._rows)
        return self._numbers.get(xxhash.xxh3_64_intdigest(path))

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __contains__(self, path: bytes) -> bool:
        return self._number(path) is not None

    @property
    def fresh(self) -> bool:
        """Whether anything was noted since it was loaded."""
        return len(self._rows) > self._loaded

    def get(self, path: bytes, stamp: bytes) -> str | None:
        """The SHA-256 (hex) of the file at `path`, if it was hashed when its stamp was this one."""
        number = self._number(path)
        if number is None:
            return None
        found = self._rows[number * _SIZE : (number + 1) * _SIZE]
        return found[_DIGEST].hex() if found[_MARK] == _mark(path, stamp) else None

    def note(self, path: bytes, stamp: bytes, digest: str) -> None:
        """The file at `path` had this SHA-256 (hex) when its stamp was this one."""
        key = xxhash.xxh3_64_intdigest(path).to_bytes(8, "little")
        self._rows += key + _mark(path, stamp) + bytes.fromhex(digest)

    def merged(self, data: bytes | None) -> bytes:
        """The table `data` with what was noted here."""
        other = FileTable(data)
        with memoryview(self._rows) as whole, whole[self._loaded :] as noted:
            if not other:
                return b"".join((_HEAD, noted))
            other._rows += noted
        other._number(b"")
        rows = other._rows
        return _HEAD + b"".join(
            [rows[row * _SIZE : (row + 1) * _SIZE] for row in sorted(other._numbers.values())]
        )


def _mark(path: bytes, stamp: bytes) -> bytes:
    return xxhash.xxh3_128_digest(path + b"\0" + stamp)
