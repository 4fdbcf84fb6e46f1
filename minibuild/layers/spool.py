"""Values that are too many to be held, one after the other in a file that has no name."""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_LENGTH = 8


class Spool:
    """`scratch` gives the descriptor of an empty file; it is asked for when the first value is put."""

    def __init__(self, scratch: Callable[[], int]) -> None:
        self._scratch = scratch
        self._fd = -1
        self.end = 0
        """Where the next value will be."""

    def put(self, value: Any) -> None:
        """Add a value of what `marshal` takes: tuples, lists, bytes, numbers, and no subclasses of them."""
        if self._fd < 0:
            self._fd = self._scratch()
        data = marshal.dumps(value)
        data = len(data).to_bytes(_LENGTH, "little") + data
        while data:
            written = os.pwrite(self._fd, data, self.end)
            self.end += written
            data = data[written:]

    def values(self, start: int, end: int) -> Iterator[Any]:
        """The values between two places, each read when it is asked for."""
        while start < end:
            size = int.from_bytes(os.pread(self._fd, _LENGTH, start), "little")
            yield marshal.loads(os.pread(self._fd, size, start + _LENGTH))
            start += _LENGTH + size

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
