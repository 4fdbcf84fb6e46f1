"""The patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``: ``*``, ``?`` and literals, no brackets.

``\\*``, ``\\?`` and ``\\\\`` are literal; ``\\}`` and ``\\/`` are how the closing characters are written.
As in BuildKit neither wildcard crosses a line end.
"""

from __future__ import annotations

import re

_Segments = list[list[str]]  # between the stars: one expression for each character


class BadPattern(Exception):
    """The pattern holds an escape that means nothing; the text says which."""


def remove_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest (or `longest`) start that `pattern` matches."""
    match = re.match(_expression(_parse(pattern), longest), value)
    return value[match.end() :] if match else value


def remove_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest (or `longest`) end that `pattern` matches."""
    mirrored = [segment[::-1] for segment in reversed(_parse(pattern))]
    match = re.match(_expression(mirrored, longest), value[::-1])
    return value[: len(value) - match.end()] if match else value


def replace_first(value: str, pattern: str, replacement: str) -> str:
    """`value` with the first, longest match of `pattern` replaced."""
    match = re.search(_expression(_parse(pattern), True), value)
    if match is None:
        return value
    return value[: match.start()] + replacement + value[match.end() :]


def replace_all(value: str, pattern: str, replacement: str, *, limit: int) -> str:
    """`value` with every match of `pattern` replaced; OverflowError past `limit` characters.

    ``$0`` in the replacement is the match, ``$$`` a dollar, any other ``$name`` nothing: BuildKit hands
    the text to Go's regexp.ReplaceAllString.
    """
    out: list[str] = []
    size = last = 0
    for match in re.finditer(_expression(_parse(pattern), True), value):
        start, end = match.span()
        out.append(value[last:start])
        if end > last or start == 0:  # not the empty match right behind another one
            out.append(_fill(replacement, match.group()))
            size += len(out[-1])
        last = end
        if size > limit:
            raise OverflowError
    out.append(value[last:])
    return "".join(out)


def _parse(pattern: str) -> _Segments:
    segments: _Segments = [[]]
    at, size = 0, len(pattern)
    while at < size:
        ch = pattern[at]
        at += 1
        if ch == "*":
            segments.append([])
        elif ch == "?":
            segments[-1].append(".")
        elif ch == "\\":
            following = pattern[at : at + 1]
            if following and following in "}/":
                continue
            if not following or following not in "*?\\":
                raise BadPattern(f"invalid escape '\\{following}'")
            segments[-1].append(re.escape(following))
            at += 1
        else:
            segments[-1].append(re.escape(ch))
    return segments


def _expression(segments: _Segments, longest: bool) -> str:
    """Each piece between stars is taken where it first fits and never reconsidered, so time stays linear.

    That gives the shortest match; for the longest only the last star has to reach as far as it can.
    """
    texts = ["".join(segment) for segment in segments]
    if len(texts) == 1:
        return texts[0]
    middle = texts[1:-1] if longest else texts[1:]
    tail = f".*{texts[-1]}" if longest else ""
    return texts[0] + "".join(f"(?>.*?{text})" for text in middle) + tail


def _fill(template: str, match: str) -> str:
    if "$" not in template:
        return template
    return re.sub(r"\$(?:(\$)|(\w+)|\{(\w+)\})", lambda m: _reference(m, match), template)


def _reference(found: re.Match[str], match: str) -> str:
    if found[1]:
        return "$"
    return match if (found[2] or found[3]) == "0" else ""
