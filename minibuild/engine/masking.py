"""Values of secrets in what steps print: replaced by ``***`` before anybody sees them.

Also where a value comes in pieces: what may be the beginning of one is kept back until the next piece, or
the end. A value counts as it is, without blanks and newlines around it; one of many lines also line by
line, as it is mostly printed.
"""

from __future__ import annotations

import threading
from typing import Final

MASK: Final = b"***"
_LEAST: Final = 4  # shorter ones are in every other word
_LEAST_LINE: Final = 8
_MOST_LINES: Final = 200
_ARMOUR: Final = b"-----"  # of PEM: no secret, and in public files as well
_PROBE: Final = 8


class Masks:
    """The values of a build; thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.values: tuple[bytes, ...] = ()  # the longest first

    def add(self, secret: bytes) -> None:
        """Mask the value from now on."""
        value = secret.strip()
        lines = [line.strip() for line in value.splitlines()]
        if len(lines) > _MOST_LINES:
            lines = []
        found = {line for line in lines if len(line) >= _LEAST_LINE and not line.startswith(_ARMOUR)}
        if len(value) >= _LEAST:
            found.add(value)
        with self._mutex:
            self.values = tuple(sorted(found.union(self.values), key=lambda one: (-len(one), one)))


class Masker:
    """One stream of output on its way out."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown of all that came so far."""
        data = self._kept + data
        end = self._undecided(data)
        self._kept = data[end:]
        return self._masked(data[:end])

    def end(self) -> bytes:
        """The rest."""
        data, self._kept = self._kept, b""
        return self._masked(data)

    def _masked(self, data: bytes) -> bytes:
        for value in self._masks.values:
            data = data.replace(value, MASK)
        return data

    def _undecided(self, data: bytes) -> int:
        """Where the end of `data` begins that may be the beginning of a value; no value is cut there."""
        values = self._masks.values
        end = min((_beginning(data, value) for value in values), default=len(data))
        moved = True
        while moved:
            moved = False
            for value in values:
                begin = data.find(value, max(0, end - len(value) + 1), end + len(value) - 1)
                if 0 <= begin < end:
                    end, moved = begin, True
        return end


def _beginning(data: bytes, value: bytes) -> int:
    """The first place from which on the rest of `data` is the beginning of `value`, not all of it."""
    place = max(0, len(data) - len(value) + 1)
    probe = value[:_PROBE]
    while (found := data.find(probe, place)) >= 0:
        if value.startswith(data[found:]):
            return found
        place = found + 1
    for begin in range(max(place, len(data) - len(probe) + 1), len(data)):
        if probe.startswith(data[begin:]):
            return begin
    return len(data)
