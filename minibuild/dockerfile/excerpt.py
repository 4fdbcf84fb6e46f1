"""Faults with the lines they are in, laid out as BuildKit shows them."""

from __future__ import annotations

from minibuild.credentials import redacted
from minibuild.errors import MinibuildError, SourceRange

_RULE = "--------------------"


def excerpt(text: str, where: SourceRange) -> str:
    """``file:line`` and the lines around `where` in `text`, those at fault marked ``>>>``.

    Ends with a line end; empty where the place is not in the text. Addresses lose their passwords.
    """
    lines = text.split("\n")
    start, end = where.first, min(max(where.first, where.last), len(lines))
    if not 1 <= start <= len(lines):
        return ""
    pad = 4 if start == end else 2
    first, last, taken = start, end, 0
    while taken < pad:
        if first > 1:
            first -= 1
            taken += 1
        if last < len(lines):
            last += 1
            taken += 1
        taken += 1
    rows = [f"{where.file}:{start}", _RULE]
    for place in range(first, last + 1):
        mark = ">>>" if start <= place <= end else "   "
        rows.append(f" {place:3} | {mark} {_printable(redacted(lines[place - 1]).rstrip(chr(13)))}")
    rows.append(_RULE)
    return "\n".join(rows) + "\n"


def _printable(line: str) -> str:
    """A line that does nothing to a terminal; bytes that are no text may stand in it."""
    return (
        line if line.isprintable() else "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
    )


def describe(error: MinibuildError, text: str) -> str:
    """The excerpt of `text` where `error` has a place, then its message and its cure, a line each."""
    shown = excerpt(text, error.where) if error.where else ""
    cure = f"\n{error.cure}" if error.cure else ""
    return f"{shown}{error.message}{cure}\n"
