"""Values that are too many to be held, one after the other in a file that has no name."""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_LENGTH = 8
_AHEAD = 1 << 14  # read at once for single values, which are often asked for in their order


class Spool:
    """`scratch` gives the descriptor of an empty file; it is asked for when the first value is put."""

    def __init__(self, scratch: Callable[[], int]) -> None:
        self._scratch = scratch
        self._fd = -1
        self._ahead = b""
        self._from = 0  # where that was read
        self.end = 0
        """Where the next value will be."""

    def put(self, value: Any) -> int:
        """Add a value of what `marshal` takes: tuples, lists, bytes, numbers, and no subclasses of them.

        Returns its place.
        """
        return self.put_all((value,))[0]

    def put_all(self, values: Iterable[Any]) -> list[int]:
        """The same for values that fit into memory together."""
        if self._fd < 0:
            self._fd = self._scratch()
        parts: list[bytes] = []
        places: list[int] = []
        end = self.end
        for value in values:
            data = marshal.dumps(value)
            parts += (len(data).to_bytes(_LENGTH, "little"), data)
            places.append(end)
            end += _LENGTH + len(data)
        rest = b"".join(parts)
        while rest:
            written = os.pwrite(self._fd, rest, self.end)
            self.end += written
            rest = rest[written:]
        return places

    def values(self, start: int, end: int) -> Iterator[Any]:
        """The values between two places, each read when it is asked for."""
        while start < end:
            size = int.from_bytes(os.pread(self._fd, _LENGTH, start), "little")
            yield marshal.loads(os.pread(self._fd, size, start + _LENGTH))
            start += _LENGTH + size

    def value(self, place: int) -> Any:
        """The value at `place`."""
        start = place - self._from
        if start < 0 or start + _LENGTH > len(self._ahead):
            self._read_ahead(place, _AHEAD)
            start = 0
        stop = start + _LENGTH + int.from_bytes(self._ahead[start : start + _LENGTH], "little")
        if stop > len(self._ahead):
            self._read_ahead(place, max(stop - start, _AHEAD))
            start, stop = 0, stop - start
        return marshal.loads(memoryview(self._ahead)[start + _LENGTH : stop])

    def _read_ahead(self, place: int, size: int) -> None:
        self._ahead, self._from = os.pread(self._fd, size, place), place

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
