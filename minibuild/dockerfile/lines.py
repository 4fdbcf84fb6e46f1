"""Physical lines to logical ones: continuations joined, comments and empty lines inside them dropped."""

from __future__ import annotations

from minibuild.dockerfile.directives import DirectiveReader, check_escape
from minibuild.dockerfile.gotext import SPACE
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple

# BuildKit's scanner gives up on longer lines, here-documents included.
LONGEST_LINE = 65_535
# More does not fit into one of BuildKit's messages, which hold a Dockerfile whole.
LARGEST = 16 << 20


class LogicalLine(NamedTuple):
    """`text` keeps the blanks of continued lines; `first` and `last` count from 1.

    `comments` stand directly above, blank lines in between not counted; an empty comment line drops those
    before it. `gap` says that an empty line stood inside the continuation.
    """

    text: str
    first: int
    last: int
    comments: tuple[str, ...]
    gap: bool


class LineReader:
    """Reads a file front to back: `next_line` for instructions, `body` for the text below one.

    `escape` is the character in force, as far as read.
    """

    __slots__ = ("_directives", "_open_end", "_rows", "at", "escape", "name")

    def __init__(self, text: str, name: str) -> None:
        self._rows = text.removeprefix("\ufeff").split("\n")
        self._open_end = self._rows[-1] != ""  # the last line has no line end
        if not self._open_end:
            self._rows.pop()
        self._directives = DirectiveReader()
        self.at = 0
        self.name = name
        self.escape = "\\"

    def next_line(self) -> LogicalLine | None:
        """The next line that is not empty and no comment, or None at the end. Raises DockerfileError."""
        comments: list[str] = []
        while self.at < len(self._rows):
            row = self._row()
            text = row.lstrip(SPACE)
            if text.startswith("#"):
                self._comment(row, text, comments)
                continue
            self._directives.done = True
            text, more = self._cut(text)
            if text or more:
                return self._joined(text, more, tuple(comments))
        return None

    def body(self, terminator: str, *, chomp: bool) -> str | None:
        """The lines up to the one that is `terminator` (tabs before it allowed with `chomp`), or None.

        Line ends are kept as they are. Raises DockerfileError.
        """
        start = self.at
        while self.at < len(self._rows):
            row = self._row()
            if (row.lstrip("\t") if chomp else row) == terminator:
                return "".join(f"{text}\n" for text in self._rows[start : self.at - 1])
        return None

    def _row(self) -> str:
        """The next physical line without its line end."""
        row = self._rows[self.at]
        self.at += 1
        if len(row) > LONGEST_LINE // 4 and len(row.encode("utf-8", "surrogatepass")) > LONGEST_LINE:
            raise DockerfileError(
                f"dockerfile line greater than max allowed size of {LONGEST_LINE}",
                cure="Break the line, or put the text into a file and COPY it.",
                where=SourceRange(self.name, self.at, self.at),
            )
        return row.rstrip("\r")

    def _comment(self, row: str, text: str, comments: list[str]) -> None:
        try:
            key = self._directives.feed(text)
            if key == "escape":
                self.escape = check_escape(self._directives.seen[key])
        except DockerfileError as error:
            raise error.at(SourceRange(self.name, self.at, self.at)) from None
        if key is not None:
            return
        if comment := row[1:].strip(SPACE):
            comments.append(comment)
        else:
            comments.clear()

    def _joined(self, text: str, more: bool, comments: tuple[str, ...]) -> LogicalLine:
        first, gap, parts = self.at, False, [text]
        while more and self.at < len(self._rows):
            row = self._row()
            start = row.lstrip(SPACE)
            if not start:
                gap = True
            elif not start.startswith("#"):
                row, more = self._cut(row)
                parts.append(row)
        return LogicalLine("".join(parts), first, self.at, comments, gap)

    def _cut(self, row: str) -> tuple[str, bool]:
        """`row` without a continuation character, and whether there was one.

        Doubled it is no continuation; blanks behind it do not matter.
        """
        bare = row.rstrip(" \t")
        if bare.endswith(self.escape) and (len(bare) == 1 or bare[-2] != self.escape):
            return bare[:-1], True
        return row, False
