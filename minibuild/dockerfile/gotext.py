"""Go's notions of white space, quoting and numbers, where a Dockerfile's meaning hangs on them.

Python's own differ in small ways: `str.strip` also takes U+001C to U+001F, and `int` takes underscores,
spaces and foreign digits.
"""

from __future__ import annotations

# unicode.IsSpace
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# What separates an instruction from its arguments, and arguments from each other.
BLANKS = "\t\v\f\r "

_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def quote(text: str) -> str:
    """`text` in double quotes as ``%q`` writes it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(ch: str) -> str:
    if ch in _ESCAPES:
        return _ESCAPES[ch]
    if ch.isprintable():
        return ch
    code = ord(ch)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def split_blanks(text: str, limit: int = -1) -> list[str]:
    """`text` cut at runs of blanks, at most `limit` times; a leading blank gives an empty first word."""
    parts: list[str] = []
    start = at = 0
    size = len(text)
    while at < size and len(parts) != limit:
        if text[at] in BLANKS:
            parts.append(text[start:at])
            while at < size and text[at] in BLANKS:
                at += 1
            start = at
        else:
            at += 1
    parts.append(text[start:])
    return parts


def number(text: str, *, base: int = 10, most: int, signed: bool = False) -> int | None:
    """The number `text` spells in digits of `base`, or None where it spells none or exceeds `most`.

    With `signed` a leading ``+`` or ``-`` is taken, and `most` bounds the absolute value.
    """
    digits = text[1:] if signed and text[:1] in ("+", "-") else text
    allowed = "0123456789"[:base]
    if not digits or digits.strip(allowed):
        return None
    digits = digits.lstrip("0") or "0"
    if len(digits) > 30:
        return None
    value = int(digits, base)
    if value > most:
        return None
    return -value if text[0] == "-" else value


def boolean(text: str) -> bool | None:
    """strconv.ParseBool: True, False, or None where `text` is neither."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    return None
