"""The near miss: which of the known names a mistyped one was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable

_REACH = 3  # a suggestion is fewer edits away than this
_LONGEST = 64


def near_miss(word: str, known: Iterable[str], *, case_sensitive: bool = True) -> str:
    """The name of `known` closest to `word`, or "" where none is close or one is `word` itself.

    Without `case_sensitive` the answer takes the case of `word`, where that has one.
    """
    wanted = word if case_sensitive else word.lower()
    best, reach = "", _REACH
    if len(word) > _LONGEST:
        return ""
    for name in known:
        candidate = name if case_sensitive else name.lower()
        if candidate == wanted:
            return ""
        distance = _distance(wanted, candidate, reach + 1)
        # Of two equally near names the one with the same first letter was meant.
        if distance < reach or (best and distance == reach and candidate[:1] == wanted[:1] != best[:1]):
            best, reach = candidate, distance
    if case_sensitive or word == word.lower():
        return best
    return best.upper() if word == word.upper() else best


def did_you_mean(word: str, known: Iterable[str], *, case_sensitive: bool = True) -> str:
    """`` (did you mean NAME?)`` to end a message with, or "" where no name is near."""
    match = near_miss(word, known, case_sensitive=case_sensitive)
    return f" (did you mean {match}?)" if match else ""


def _distance(a: str, b: str, limit: int) -> int:
    """Insertions, deletions and replacements from `a` to `b`; `limit` or more is not told apart."""
    if abs(len(a) - len(b)) >= limit:
        return limit
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
        if min(row) >= limit:
            return limit
    return row[-1]
