"""Ignore files: which paths of a build context a build does not see."""

from __future__ import annotations

from minibuild.dockerfile.gopath import clean
from minibuild.dockerfile.gotext import SPACE
from minibuild.dockerfile.patterns import NO_MATCH, PatternList
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple


class IgnoreLine(NamedTuple):
    """Line `number` of the file, counted from 1, and its text without white space around it."""

    number: int
    text: str


class Decision(NamedTuple):
    """Whether a path is ignored, and by (or in spite of) which line; None where no line speaks of it."""

    ignored: bool
    line: IgnoreLine | None


class IgnoreFile:
    """The patterns of one ignore file. Ask about paths in the order of a walk: answers build on each other.

    Paths are relative to the context and slash-separated. Not for several threads at once.
    """

    __slots__ = ("_list", "name", "patterns")

    def __init__(self, name: str, lines: tuple[IgnoreLine, ...], patterns: PatternList) -> None:
        self.name = name
        self.patterns = lines
        self._list = patterns

    @classmethod
    def parse(cls, text: str | bytes, name: str = ".dockerignore") -> IgnoreFile:
        """Lines that start with ``#`` are comments. Raises DockerfileError where a pattern is malformed."""
        source = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        lines: list[IgnoreLine] = []
        patterns: list[str] = []
        for number, row in enumerate(source.removeprefix("\ufeff").split("\n"), 1):
            shown = row.strip(SPACE)
            if not shown or row.startswith("#"):
                continue
            pattern = _normal(shown)
            try:
                PatternList([pattern])
            except DockerfileError as error:
                raise error.at(SourceRange(name, number, number)) from None
            lines.append(IgnoreLine(number, shown))
            patterns.append(pattern)
        return cls(name, tuple(lines), PatternList(patterns))

    def copy(self) -> IgnoreFile:
        """The same patterns for another walk, or another thread."""
        return IgnoreFile(
            self.name, self.patterns, PatternList([_normal(line.text) for line in self.patterns])
        )

    @property
    def has_exceptions(self) -> bool:
        """Whether some line starts with ``!``."""
        return self._list.has_negated

    def ignores(self, path: str, is_dir: bool = False) -> bool:
        """Whether `path` is left out. Files and folders are judged alike; `is_dir` is there for callers."""
        return self._list.matches(_relative(path))

    def decision(self, path: str) -> Decision:
        """`ignores`, with the line that says so."""
        last = self._list.last_match(_relative(path))
        if last == NO_MATCH:
            return Decision(False, None)
        return Decision(not self._list.patterns[last].negated, self.patterns[last])

    def may_contain(self, path: str) -> bool:
        """Whether the folder `path` may hold anything that is not ignored; False means: do not walk it."""
        path = _relative(path)
        return not self._list.matches(path) or self._list.may_differ_below(path)

    def spares(self, path: str) -> bool:
        """Whether neither the folder `path` nor anything below it is ignored; False may be wrong."""
        path = _relative(path)
        return not (self._list.matches(path) or self._list.may_differ_below(path))


def _normal(line: str) -> str:
    """The pattern of a line as BuildKit hands it on: cleaned, and relative to the context."""
    negated = line.startswith("!")
    pattern = line[negated:].strip(SPACE)
    if pattern:
        pattern = clean(pattern)
        if len(pattern) > 1 and pattern.startswith("/"):
            pattern = pattern[1:]
    return f"!{pattern}" if negated else pattern


def _relative(path: str) -> str:
    if path.startswith(("/", "./")) or path.endswith("/"):
        return clean(path).lstrip("/") or "."
    return path
