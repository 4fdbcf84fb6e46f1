"""What one logical line consists of, before any instruction's own rules: name, flags, arguments."""

from __future__ import annotations

from minibuild.dockerfile.execform import parse_array
from minibuild.dockerfile.flags import split_flags
from minibuild.dockerfile.gotext import SPACE, split_blanks
from minibuild.dockerfile.instruction import Heredoc
from minibuild.errors import SourceRange
from minibuild.values import NamedTuple


class Statement(NamedTuple):
    """An instruction taken apart. `code` is the logical line, `rest` the arguments as written."""

    keyword: str
    flags: list[str]
    rest: str
    code: str
    escape: str
    where: SourceRange
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


def split_statement(code: str, escape: str) -> tuple[str, list[str], str]:
    """The keyword as written, the flag words and the arguments of a logical line."""
    keyword, *tail = split_blanks(code.strip(SPACE), 1)
    if not tail:
        return keyword, [], ""
    flags, rest = split_flags(tail[0], escape)
    return keyword, flags, rest.strip(SPACE)


def takes_heredocs(keyword: str, rest: str, escape: str) -> bool:
    """Whether ``<<`` in this statement opens a here-document: not in other instructions or exec form.

    Raises DockerfileError for a JSON array that is no array of strings.
    """
    keyword = keyword.lower()
    if keyword == "onbuild":
        keyword, _, rest = split_statement(rest, escape)
        keyword = keyword.lower()
    return keyword in ("add", "copy", "run") and parse_array(rest) is None
