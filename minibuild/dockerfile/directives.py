"""Parser directives: ``# key=value`` comments at the very top of a Dockerfile.

Known keys are syntax, escape and check, in any letter case and each at most once. The first line that is
anything else ends the search: another comment, an empty line, an instruction.
"""

from __future__ import annotations

import re

from minibuild.dockerfile.gotext import SPACE
from minibuild.errors import DockerfileError

_KEYS = ("syntax", "escape", "check")
_BLANK = "[\\t\\n\\f\\r ]*"
_DIRECTIVE = rf"([a-zA-Z][a-zA-Z0-9]*){_BLANK}={_BLANK}(.+?){_BLANK}"


class DirectiveReader:
    """Is shown the lines of a file one by one, from the top, until it is `done`."""

    __slots__ = ("done", "seen")

    def __init__(self) -> None:
        self.done = False
        self.seen: dict[str, str] = {}

    def feed(self, line: str) -> str | None:
        """The key that `line` sets, or None. Raises DockerfileError where the key is set already."""
        if self.done:
            return None
        match = re.fullmatch(_DIRECTIVE, line[1:].lstrip(SPACE)) if line.startswith("#") else None
        key = match[1].lower() if match else ""
        if match is None or key not in _KEYS:
            self.done = True
            return None
        if key in self.seen:
            raise DockerfileError(
                f"only one {key} parser directive can be used", cure=f"Remove the second '# {key}=' line."
            )
        self.seen[key] = match[2]
        return key


def read_directives(text: str) -> tuple[tuple[str, str], ...]:
    """The directives of a file, in order; a ``#!`` first line is passed over.

    Unlike the parser, which lets the escape directive be indented but not follow a ``#!`` line, this wants
    the ``#`` in the first column: both are BuildKit's rules. Never raises: a repeated key ends the search.
    """
    reader = DirectiveReader()
    lines = text.removeprefix("\ufeff").split("\n", 16)
    for line in lines[1:] if lines[0].startswith("#!") else lines:
        try:
            reader.feed(line.removesuffix("\r"))
        except DockerfileError:
            break
        if reader.done:
            break
    return tuple(reader.seen.items())


def check_escape(value: str) -> str:
    """The escape character that an escape directive names. Raises DockerfileError."""
    if value not in ("\\", "`"):
        raise DockerfileError(
            f"invalid escape token '{value}' does not match ` or \\",
            cure="Write '# escape=\\' or '# escape=`'.",
        )
    return value


def option_text(value: str) -> str:
    """The part of a directive's value that counts: what follows the first space is a remark."""
    return value.partition(" ")[0]
