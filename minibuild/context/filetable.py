"""What the files of a context folder were when they were last hashed: 56 bytes a file, loaded in one go.

    magic "mbft", version (u32), little-endian as all numbers
    rows: xxh3_64 of the path in the folder, xxh3_128 of path and stamp, SHA-256 of the content

A later row of a path takes the place of an earlier one.
"""

from __future__ import annotations

import struct
import threading
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import xxhash

if TYPE_CHECKING:
    from minibuild.layers.spool import Spool

_HEAD: Final = b"mbft\3\0\0\0"
_SIZE: Final = 56
_START: Final = len(_HEAD)
_KEY: Final = struct.Struct("<Q48x")
_MARK: Final = 8
_DIGEST: Final = 24
_HELD: Final = 4 << 20


class FileTable:
    """SHA-256 by path and stamp (see `Row`); about 65 bytes of memory a file.

    With `scratch`, which gives an empty file's descriptor, a new table is not held while it is only noted in.
    """

    def __init__(self, data: bytes | None = None, scratch: Callable[[], int] | None = None) -> None:
        known = data is not None and data.startswith(_HEAD) and not (len(data) - _START) % _SIZE
        self._data = bytearray(data if known and data is not None else _HEAD)
        self._noted = bytearray()  # the rows that are not as they were loaded, in a table that was not empty
        self._slots = array("I")  # by the hash of a path, at its place or behind: number of its row, from 1
        self._numbered = 0
        self._next = _START  # where the file that is asked for next is likely to be
        self._loaded = len(self._data) > _START
        self._scratch = scratch
        self._spool: Spool | None = None  # rows that come before those of the data
        self._mutex = threading.Lock()

    def _put_away(self) -> None:
        """Have what was noted in a file, until something is asked."""
        if self._scratch is None:
            return
        if self._spool is None:
            from minibuild.layers.spool import Spool

            self._spool = Spool(self._scratch)
        self._spool.put(bytes(self._data[_START:]))
        del self._data[_START:]

    def _fetch(self) -> None:
        if self._spool is not None:
            rest, self._data = self._data, bytearray(_HEAD)
            for rows in self._spool.values(0, self._spool.end):
                self._data += rows
            self._data += rest[_START:]
            self._spool = self._scratch = None

    def _at(self, key: int) -> int:
        """Where the latest row of a path's hash is, 0 for nowhere."""
        rows = (len(self._data) - _START) // _SIZE
        if self._numbered < rows:  # not at once: one who only notes needs no numbers
            self._number(rows)
        number = self._slots[self._slot(key)] if rows else 0
        return number and _START + (number - 1) * _SIZE

    def _number(self, rows: int) -> None:
        """Put the new rows into slots, two thirds of which are used at most."""
        if rows * 3 > len(self._slots) * 2:
            self._slots = array("I", bytes(4 << (rows * 3).bit_length()))
            self._numbered = 0
        slots, slot = self._slots, self._slot
        with memoryview(self._data) as whole, whole[_START + self._numbered * _SIZE :] as new:
            for number, (key,) in enumerate(_KEY.iter_unpack(new), self._numbered + 1):
                slots[slot(key)] = number
        self._numbered = rows

    def _slot(self, key: int) -> int:
        """The slot of a path's hash: the one it is in, or a free one."""
        slots, data = self._slots, self._data
        last = len(slots) - 1
        slot = key & last
        packed = key.to_bytes(8, "little")
        while (number := slots[slot]) and not data.startswith(packed, _START + (number - 1) * _SIZE):
            slot = (slot + 1) & last
        return slot

    def __bool__(self) -> bool:
        return len(self._data) > _START or self._spool is not None

    @property
    def size(self) -> int:
        """How many bytes are held, or would be if something was asked."""
        return len(self._data) + (0 if self._spool is None else self._spool.end)

    def __contains__(self, path: bytes) -> bool:
        with self._mutex:
            self._fetch()
            return self._at(xxhash.xxh3_64_intdigest(path)) > 0

    @property
    def fresh(self) -> bool:
        """Whether anything was noted since it was loaded."""
        return bool(self._noted) if self._loaded else bool(self)

    def known(self, files: Iterable[tuple[bytes, bytes]]) -> list[str | None]:
        """For each path and stamp the SHA-256 (hex) of the file, if it was hashed when that was its stamp.

        Files that are asked for in the order in which they were noted need no look into the slots.
        """
        found: list[str | None] = []
        with self._mutex:
            self._fetch()
            data, hashed, at = self._data, xxhash.xxh3_64_intdigest, self._next
            for path, stamp in files:
                number, mark = hashed(path), _mark(path, stamp)
                if not data.startswith(number.to_bytes(8, "little") + mark, at):
                    latest = self._at(number)
                    at = latest or at
                    if not latest or not data.startswith(mark, at + _MARK):
                        found.append(None)
                        at += _SIZE if latest else 0
                        continue
                found.append(data[at + _DIGEST : at + _SIZE].hex())
                at += _SIZE
            self._next = at
        return found

    def get(self, path: bytes, stamp: bytes) -> str | None:
        """The SHA-256 (hex) of the file at `path`, if it was hashed when its stamp was this one."""
        return self.known([(path, stamp)])[0]

    def note(self, path: bytes, stamp: bytes, digest: str) -> None:
        """The file at `path` had this SHA-256 (hex) when its stamp was this one."""
        key = xxhash.xxh3_64_intdigest(path)
        row = key.to_bytes(8, "little") + _mark(path, stamp) + bytes.fromhex(digest)
        with self._mutex:
            if self._loaded:
                self._set(row)
                self._noted += row
            else:
                self._data += row
                if len(self._data) > _HELD:
                    self._put_away()

    def _set(self, row: bytes) -> None:
        """Put `row` where that of the same path is, or behind all."""
        at = self._at(int.from_bytes(row[:8], "little")) or len(self._data)
        self._data[at : at + _SIZE] = row

    def whole(self) -> bytes | bytearray:
        """The table as it is to be kept, if that which it was made of is still what is kept."""
        with self._mutex:
            self._fetch()
        return self._data

    def merged(self, data: bytes | None) -> bytes | bytearray:
        """The table `data` with what was noted here."""
        noted = self._noted if self._loaded else self.whole()[_START:]
        other = FileTable(data)
        for start in range(0, len(noted), _SIZE):
            other._set(bytes(noted[start : start + _SIZE]))
        return other._data


def _mark(path: bytes, stamp: bytes) -> bytes:
    return xxhash.xxh3_128_digest(path + b"\0" + stamp)
