"""Which instruction of a stage is which instruction of the same stage in an earlier build."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

_ALIKE = 0.4


def aligned(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Position in `new` to position in `old`, order kept: equal texts first, between them similar ones.

    An instruction is never taken for one of another kind; what matches nothing is new, or gone.
    """
    pairs: dict[int, int] = {}
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs.update(zip(range(j1, j2), range(i1, i2), strict=True))
        elif tag == "replace":
            pairs.update(_similar(old, new, range(i1, i2), range(j1, j2)))
    return pairs


def _similar(old: Sequence[str], new: Sequence[str], olds: range, news: range) -> dict[int, int]:
    """Pair the most similar instructions of two blocks, best first, without crossing."""
    scores = sorted(
        (
            (_likeness(old[i], new[j]), -abs((i - olds.start) - (j - news.start)), i, j)
            for i in olds
            for j in news
        ),
        reverse=True,
    )
    pairs: dict[int, int] = {}
    for score, _, i, j in scores:
        if score < _ALIKE and len(olds) != len(news):
            continue
        if score <= 0 or j in pairs or i in pairs.values():
            continue
        if all((i < other_i) == (j < other_j) for other_j, other_i in pairs.items()):
            pairs[j] = i
    return pairs


def _likeness(old: str, new: str) -> float:
    """From 0 for instructions of different kinds to 1 for equal ones."""
    if _word(old) != _word(new):
        return 0.0
    return 0.05 + 0.95 * SequenceMatcher(None, old, new, autojunk=False).ratio()


def _word(text: str) -> str:
    word = text.split(None, 1)[0].upper() if text.strip() else ""
    return "COPY" if word == "ADD" else word
