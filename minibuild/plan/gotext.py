"""Text as Go's fmt prints it, for history lines that read like BuildKit's."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f",
    "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def quote(text: str) -> str:
    """`text` as Go's ``%q``."""
    return '"' + "".join(_quote_character(character) for character in text) + '"'


def _quote_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_list(items: Sequence[str]) -> str:
    """A list of strings as Go's ``%q``."""
    return "[" + " ".join(quote(item) for item in items) + "]"


def plain_list(items: Sequence[str]) -> str:
    """A list of strings as Go's ``%v``."""
    return "[" + " ".join(items) + "]"


def duration(nanoseconds: int) -> str:
    """A time.Duration as Go prints it: ``1m30s``, ``1.5s``, ``200ms``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if rest < size * 1000 and rest < 1_000_000_000:
            return sign + _decimal(rest, size) + unit
    minutes, seconds = divmod(rest, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(seconds, 1_000_000_000) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0")
