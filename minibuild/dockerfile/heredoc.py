"""Here-documents: which words of a RUN, COPY or ADD line open one, and what their bodies mean."""

from __future__ import annotations

import re

from minibuild.dockerfile.gotext import quote
from minibuild.dockerfile.instruction import CommandLine, Heredoc
from minibuild.dockerfile.lines import LineReader, LogicalLine
from minibuild.dockerfile.words import expand_words
from minibuild.errors import DockerfileError, SourceRange

_OPENING = r"[0-9]*<<(-?)[\t\n\f\r ]*([^<]*)"


def opening(word: str) -> Heredoc | None:
    """The here-document that `word` opens, its content still empty, or None where it opens none.

    Raises DockerfileError where the delimiter has a quote without its partner.
    """
    match = re.fullmatch(_OPENING, word) if "<<" in word else None
    if match is None or not match[2]:
        return None
    names = expand_words(match[2], {}, skip_unset=True)
    if len(names) != 1:
        return None
    raw = expand_words(match[2], {}, skip_unset=True, keep_quotes=True)
    # A quoted delimiter, even in part, means that nothing in the body is expanded.
    expand = len(raw) == 1 and _quotes(raw[0]) == _quotes(names[0])
    return Heredoc(names[0], "", expand=expand, chomp=match[1] == "-")


def is_opening(word: str) -> Heredoc | None:
    """`opening`, with a malformed one taken as an ordinary word."""
    try:
        return opening(word)
    except DockerfileError:
        return None


def openings(line: str) -> tuple[Heredoc, ...]:
    """All here-documents that a logical line opens. Raises DockerfileError.

    A line whose quotes do not match opens none: it is for the shell to complain.
    """
    try:
        words = expand_words(line, {}, keep_quotes=True, keep_escapes=True, skip_unset=True)
    except DockerfileError:
        return ()
    return tuple(found for word in words if (found := opening(word)))


def read_bodies(reader: LineReader, line: LogicalLine) -> tuple[Heredoc, ...]:
    """The here-documents of `line` with their bodies, which `reader` is at. Raises DockerfileError."""
    filled = []
    for doc in openings(line.text):
        content = reader.body(doc.name, chomp=doc.chomp)
        if content is None:
            raise DockerfileError(
                f"unterminated heredoc: no line {quote(doc.name)} follows the one that opens it",
                cure=f"Put {doc.name} on a line of its own, with nothing around it, below the text.",
                where=SourceRange(reader.name, line.first, line.last),
            )
        filled.append(Heredoc(doc.name, content, expand=doc.expand, chomp=doc.chomp))
    return tuple(filled)


def body(doc: Heredoc) -> str:
    """The content of `doc`, the leading tabs of each line taken off where ``<<-`` asks for it."""
    return chomp(doc.content) if doc.chomp else doc.content


def chomp(content: str) -> str:
    """`content` with the leading tabs of each line taken off."""
    return re.sub(r"(?m)^\t+", "", content)


def sole(command: CommandLine) -> Heredoc | None:
    """The here-document of a RUN that consists of nothing else: its body is the script itself."""
    if not command.heredocs or not command.shell or is_opening(command.args[0]) is None:
        return None
    return command.heredocs[0]


def script(command: CommandLine) -> str:
    """What a shell form hands to the shell: the line with the bodies below it, or the sole body alone.

    A sole body that starts with ``#!`` is a program of its own; the caller runs it as a file.
    """
    if (doc := sole(command)) is not None:
        return body(doc)
    text = command.args[0]
    for doc in command.heredocs:
        text += f"\n{doc.content}{doc.name}"
    return text


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
