"""Go's filepath.Match: the wildcards of COPY and ADD sources, and the building blocks of ignore patterns.

*        any characters but /            [a-z]   one character of the class, which may hold /
?        one character but /             [^a-z]  one character not of the class
\\x       the character x itself
"""

from __future__ import annotations

import re
from functools import lru_cache

from minibuild.dockerfile.gotext import quote
from minibuild.errors import DockerfileError

ANY = "[^/]"  # the expression for ?


@lru_cache(maxsize=512)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """An expression whose fullmatch decides as filepath.Match does. Raises DockerfileError.

    Each piece between two stars is taken where it first fits and never reconsidered; that is Go's own
    algorithm and keeps hostile patterns linear.
    """
    pieces: list[list[str]] = [[]]
    for kind, text in scan(pattern):
        if kind == "*":
            pieces.append([])
        else:
            pieces[-1].append(text)
    texts = ["".join(piece) for piece in pieces]
    if len(texts) == 1:
        return re.compile(texts[0], re.DOTALL)
    middle = "".join(f"(?>{ANY}*?{text})" for text in texts[1:-1] if text)
    return re.compile(f"{texts[0]}{middle}{ANY}*?{texts[-1]}", re.DOTALL)


def match(pattern: str, name: str) -> bool:
    """Whether `pattern` matches all of `name`. Raises DockerfileError where the pattern is malformed."""
    return compile_glob(pattern).fullmatch(name) is not None


def has_wildcard(path: str) -> bool:
    """Whether `path` holds an unescaped ``*``, ``?`` or ``[``."""
    at = 0
    while at < len(path):
        if path[at] in "*?[":
            return True
        at += 2 if path[at] == "\\" else 1
    return False


def scan(pattern: str) -> list[tuple[str, str]]:
    """The elements of `pattern` as (kind, expression), kind one of ``*``, ``?``, ``[`` and ``c``.

    A star has no expression; a literal's kind is ``c``. Raises DockerfileError.
    """
    elements: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        ch = pattern[at]
        at += 1
        if ch == "*":
            elements.append(("*", ""))
        elif ch == "?":
            elements.append(("?", ANY))
        elif ch == "[":
            expression, at = _class(pattern, at)
            elements.append(("[", expression))
        else:
            if ch == "\\":
                if at == len(pattern):
                    raise _bad(pattern)
                ch = pattern[at]
                at += 1
            elements.append(("c", re.escape(ch)))
    return elements


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The class whose first character is at `at`, as an expression, and the place behind its ``]``."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    count = 0
    while count == 0 or not pattern.startswith("]", at):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        count += 1
        if low <= high:  # an empty range is allowed and holds nothing
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    inside = "".join(ranges)
    if not inside:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    """One character of a class and the place behind it, which cannot be the end of the pattern."""
    ch = pattern[at : at + 1]
    if ch == "\\":
        at += 1
        ch = pattern[at : at + 1]
    elif ch in ("", "-", "]"):
        raise _bad(pattern)
    if not ch or at + 1 >= len(pattern):
        raise _bad(pattern)
    return ch, at + 1


def _bad(pattern: str) -> DockerfileError:
    return DockerfileError(
        f"syntax error in pattern: {quote(pattern)}",
        cure="Close the '[', or write '\\[' for the bracket itself.",
    )
