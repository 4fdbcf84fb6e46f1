"""Go durations: ``1h30m``, ``1.5s``, ``300ms``."""

from __future__ import annotations

import re

from minibuild.dockerfile.gotext import quote
from minibuild.errors import DockerfileError

MILLISECOND = 1_000_000
_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": MILLISECOND,
    "s": 1_000 * MILLISECOND, "m": 60_000 * MILLISECOND, "h": 3_600_000 * MILLISECOND,
}  # fmt: skip
_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_MOST = (1 << 63) - 1
_CURE = "Write numbers with units ns, us, ms, s, m or h, such as 30s or 1m30s."


def parse_duration(text: str) -> int:
    """The nanoseconds that `text` names, negative ones included. Raises DockerfileError."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text)
    total = 0
    while rest:
        match = _PART.match(rest)
        if match is None or not (match[1] or (match[2] and match[2] != ".")):
            raise _invalid(text)
        if not match[3]:
            raise DockerfileError(f"missing unit in duration {quote(text)}", cure=_CURE)
        unit = _UNITS.get(match[3])
        if unit is None:
            raise DockerfileError(f"unknown unit {quote(match[3])} in duration {quote(text)}", cure=_CURE)
        if len(match[1].lstrip("0")) > 19:
            raise _invalid(text)
        total += int(match[1] or "0") * unit + _fraction(match[2] or "", unit)
        if total > _MOST + (text[0] == "-"):
            raise _invalid(text)
        rest = rest[match.end() :]
    return -total if text[0] == "-" else total


def _fraction(digits: str, unit: int) -> int:
    """Nanoseconds of ``.5``: Go multiplies floats, and digits that no longer fit an int64 do not count."""
    value, scale = 0, 1.0
    for digit in digits[1:20]:
        longer = value * 10 + int(digit)
        if value > _MOST // 10 or longer > _MOST + 1:
            break
        value, scale = longer, scale * 10
    return int(value * (unit / scale))


def _invalid(text: str) -> DockerfileError:
    return DockerfileError(f"invalid duration {quote(text)}", cure=_CURE)
