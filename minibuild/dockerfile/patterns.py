"""Ordered lists of path patterns with ``**`` and ``!``: ignore files, ``--exclude`` and ``--parents``.

Decides as moby/patternmatcher does: a pattern that matches a folder matches all below it, and the last
pattern that matches a path or one of its folders decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from minibuild.dockerfile.gomatch import ANY, compile_glob, has_wildcard, scan
from minibuild.dockerfile.gopath import clean
from minibuild.dockerfile.gotext import SPACE
from minibuild.errors import DockerfileError
from minibuild.values import NamedTuple

NO_MATCH = -1


class Pattern(NamedTuple):
    """`text` is cleaned and has no ``!``; `negated` says that it had one."""

    text: str
    negated: bool


class PatternList:
    """Patterns in their order. Paths are relative, cleaned and slash-separated; ``.`` matches nothing.

    Answers about folders are remembered, so that asking for each path of a tree costs one test a path.
    """

    __slots__ = ("_compiled", "_folders", "_literals", "_names", "_order", "has_negated", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises DockerfileError where a pattern is malformed; blank ones are left out."""
        self.patterns = tuple(parse_pattern(text) for pattern in patterns if (text := pattern.strip(SPACE)))
        self.has_negated = any(pattern.negated for pattern in self.patterns)
        self._compiled: re.Pattern[str] | None = None
        self._literals: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._order: list[int] = []
        self._folders: dict[str, int] = {"": NO_MATCH, ".": NO_MATCH}

    def matches(self, path: str) -> bool:
        """Whether the last pattern that matches `path` or a folder above it is not a negated one."""
        last = self.last_match(path)
        return last != NO_MATCH and not self.patterns[last].negated

    def last_match(self, path: str) -> int:
        """The index in `patterns` of the one that decides about `path`, or NO_MATCH."""
        if path in ("", "."):
            return NO_MATCH
        folder = path.rpartition("/")[0]
        above = self._folders.get(folder)
        if above is None:
            above = self._folders[folder] = self.last_match_folder(folder)
        own = self._own(path)
        return own if own > above else above

    def last_match_folder(self, folder: str) -> int:
        """`last_match` of a folder and of those above it, remembered; deep paths do not recurse."""
        last = NO_MATCH
        at = folder.find("/")
        while True:
            head = folder if at < 0 else folder[:at]
            known = self._folders.get(head)
            if known is None:
                known = self._folders[head] = max(last, self._own(head))
            last = known
            if at < 0:
                return last
            at = folder.find("/", at + 1)

    def may_differ_below(self, folder: str) -> bool:
        """Whether some path below `folder` may be decided otherwise than `folder` itself.

        False is certain; True may be wrong.
        """
        last = self.last_match_folder(folder) if folder not in ("", ".") else NO_MATCH
        decided = last != NO_MATCH and not self.patterns[last].negated
        parts = [] if folder in ("", ".") else folder.split("/")
        return any(
            pattern.negated == decided and _may_reach_below(pattern.text, parts)
            for pattern in self.patterns[last + 1 :]
        )

    def _own(self, path: str) -> int:
        """The last pattern that matches `path` itself."""
        compiled = self._compiled or self._compile()
        literal = self._literals.get(path, NO_MATCH)
        named = self._names.get(path.rpartition("/")[2], NO_MATCH)
        if named > literal:
            literal = named
        found = compiled.fullmatch(path)
        if found is None:
            return literal
        # Alternatives run from the last pattern to the first; the first that fits wins.
        index = self._order[(found.lastindex or 0) - 1]
        return index if index > literal else literal

    def _compile(self) -> re.Pattern[str]:
        """One expression with one group a pattern, the last pattern first.

        Plain paths, and ``**/NAME``, go to tables instead.
        """
        groups: list[str] = []
        for index in range(len(self.patterns) - 1, -1, -1):
            text = self.patterns[index].text
            if text.startswith("**/") and "/" not in text[3:] and not _special(text[3:]):
                self._names[text[3:]] = max(index, self._names.get(text[3:], NO_MATCH))
            elif _special(text):
                groups.append(f"({_expression(text)})")
                self._order.append(index)
            else:
                self._literals[text] = max(index, self._literals.get(text, NO_MATCH))
        self._compiled = re.compile("|".join(groups) or "(?!)", re.DOTALL)
        return self._compiled


def _special(text: str) -> bool:
    return has_wildcard(text) or "\\" in text


def parse_pattern(text: str) -> Pattern:
    """One pattern, cleaned and checked. Raises DockerfileError."""
    text = clean(text.strip(SPACE))
    negated = text.startswith("!")
    if text == "!":
        raise DockerfileError(
            'illegal exclusion pattern: "!"', cure="Put a path behind the '!', or remove the line."
        )
    pattern = Pattern(text[negated:], negated)
    compile_glob(pattern.text)
    return pattern


def _expression(pattern: str) -> str:
    """``**/`` is any number of folders, none included; ``**`` at the end is anything at all.

    ``**`` in front of plain text makes that text a suffix: ``**x`` fits ``ax``, where ``**x?`` does not.
    """
    suffix = not any(ch in "*?[]\\" for ch in pattern[2:])
    out: list[str] = []
    elements = scan(pattern)
    at = 0
    while at < len(elements):
        kind, text = elements[at]
        at += 1
        if kind != "*":
            out.append(text)
        elif elements[at : at + 1] != [("*", "")]:
            out.append(f"{ANY}*")
        else:
            slash = elements[at + 1 : at + 2] == [("c", "/")]
            at += 1 + slash
            anything = at == len(elements) or (suffix and not slash)
            out.append(".*" if anything else "(?:.*/)?")
    return "".join(out)


def _may_reach_below(pattern: str, folder: list[str]) -> bool:
    """Whether `pattern` may match a path below `folder`: each folder so far fits its part."""
    if "[" in pattern or "\\" in pattern:
        return True  # a class may hold a slash
    parts = pattern.split("/")
    for place, name in enumerate(folder):
        if place >= len(parts):
            return False
        if "**" in parts[place]:
            return True
        if not compile_glob(parts[place]).fullmatch(name):
            return False
    return len(parts) > len(folder) or "**" in parts[-1]
