"""Columns and ages for people."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

_UNITS = (
    ("year", 31_536_000),
    ("month", 2_592_000),
    ("week", 604_800),
    ("day", 86_400),
    ("hour", 3_600),
    ("minute", 60),
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, three spaces apart."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = (
        "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
    return "\n".join(lines)


def age(created: str) -> str:
    """How long ago an RFC 3339 time was: ``3 hours ago``."""
    try:
        moment = datetime.datetime.fromisoformat(created[:19]).replace(tzinfo=datetime.UTC)
    except ValueError:
        return "N/A"
    return ago(moment.timestamp())


def ago(moment: float) -> str:
    """How long ago `moment` was, in seconds since the epoch: ``3 hours ago``."""
    seconds = datetime.datetime.now(datetime.UTC).timestamp() - moment
    for unit, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
