"""A Dockerfile's text to its stages. Nothing is expanded, and no file is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minibuild.dockerfile.builders import build, check_form
from minibuild.dockerfile.directives import read_directives
from minibuild.dockerfile.heredoc import read_bodies
from minibuild.dockerfile.instruction import Arg, Dockerfile, From, Heredoc, Instruction, Onbuild, Stage
from minibuild.dockerfile.lines import LineReader, LogicalLine
from minibuild.dockerfile.syntax import Statement, split_statement, takes_heredocs
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import replace


def parse(text: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """The Dockerfile that `text` is; `name` is what errors call it. Raises DockerfileError, nothing else.

    The behaviour is that of BuildKit's Dockerfile frontend.
    """
    dockerfile, fault = parse_partly(text, name)
    if fault is not None:
        raise fault
    return dockerfile


def parse_partly(text: str | bytes, name: str = "Dockerfile") -> tuple[Dockerfile, DockerfileError | None]:
    """What stands before the first fault of `text`, and that fault.

    A line that cannot even be taken apart is the fault wherever it is, and nothing stands before it.
    """
    source = _decoded(text)
    reader = LineReader(source, name)
    global_args: list[Arg] = []
    stages: list[Stage] = []
    members: list[Instruction] = []
    gaps: list[int] = []
    fault: DockerfileError | None = None
    try:
        for instruction, line in _instructions(reader):
            if line.gap:
                gaps.append(line.last)
            if isinstance(instruction, From):
                _close(stages, members)
                stages.append(Stage(len(stages), instruction, comment=_doc_comment(instruction)))
            elif stages:
                members.append(instruction)
            elif isinstance(instruction, Arg):
                global_args.append(instruction)
            else:
                raise _no_stage(instruction)
    except DockerfileError as error:
        fault = error
    _close(stages, members)
    if fault is None and not stages:
        fault = _nothing_to_build(source, name, bool(global_args))
    if fault is not None:
        try:
            gaps = _taken_apart(source, name)
        except DockerfileError as error:
            return Dockerfile(name, _shown(source), (), ()), error
    shown = _shown(source)
    return Dockerfile(
        name=name, text=shown, global_args=tuple(global_args), stages=tuple(stages),
        escape=reader.escape, directives=read_directives(shown), gaps=tuple(gaps),
    ), fault  # fmt: skip


def _taken_apart(source: str, name: str) -> list[int]:
    """The `gaps` of the whole text. Raises DockerfileError where a line cannot be taken apart."""
    reader = LineReader(source, name)
    gaps = []
    while (line := reader.next_line()) is not None:
        try:
            keyword, rest = _statement(reader, line)[:3:2]
            if keyword.upper() == "ONBUILD":
                keyword, _, rest = split_statement(rest, reader.escape)
            check_form(keyword.upper(), rest, reader.escape)
        except DockerfileError as error:
            raise error.at(SourceRange(name, line.first, reader.at)) from None
        if line.gap:
            gaps.append(line.last)
    return gaps


def _no_stage(instruction: Instruction) -> DockerfileError:
    return DockerfileError(
        f"no build stage in current context: {type(instruction).__name__.upper()} stands before FROM",
        cure="Begin with FROM; only ARG may stand above it.",
        where=instruction.where,
    )


def parse_onbuild(expression: str, *, name: str = "ONBUILD", where: SourceRange | None = None) -> Instruction:
    """The instruction that the trigger `expression` of an image stands for; its place becomes `where`.

    Raises DockerfileError where it is no single instruction, or one that cannot fire: FROM.
    """
    reader = LineReader(_decoded(expression), name)
    try:
        found = [instruction for instruction, _ in _instructions(reader, where)]
    except DockerfileError as error:
        error.where = where or error.where
        raise
    if len(found) != 1:
        raise DockerfileError(
            "onbuild trigger should be a single expression", cure="Rebuild the base image.", where=where
        )
    if isinstance(found[0], From):
        raise DockerfileError(
            "FROM isn't allowed as an ONBUILD trigger", cure="Rebuild the base image.", where=where
        )
    return found[0]


def with_triggers(stage: Stage, earlier: Stage | None, expressions: Sequence[str] = ()) -> Stage:
    """`stage` as it is once the triggers of what it starts from have fired, at its FROM.

    They are those of the stage `earlier`, or the `expressions` of an image. Raises DockerfileError.
    """
    if earlier is not None:
        expressions = [node.expression for node in earlier.instructions if isinstance(node, Onbuild)]
    if not expressions:
        return stage
    fired = tuple(parse_onbuild(text, where=stage.origin.where) for text in expressions)
    return replace(stage, instructions=(*fired, *stage.instructions))


def _instructions(
    reader: LineReader, where: SourceRange | None = None
) -> Iterator[tuple[Instruction, LogicalLine]]:
    while (line := reader.next_line()) is not None:
        try:
            yield _instruction(reader, line, where), line
        except DockerfileError as error:
            raise error.at(SourceRange(reader.name, line.first, reader.at)) from None


def _instruction(reader: LineReader, line: LogicalLine, where: SourceRange | None) -> Instruction:
    return build(_statement(reader, line, where))


def _statement(reader: LineReader, line: LogicalLine, where: SourceRange | None = None) -> Statement:
    keyword, flags, rest = split_statement(line.text, reader.escape)
    heredocs: tuple[Heredoc, ...] = ()
    if "<<" in line.text and takes_heredocs(keyword, rest, reader.escape):
        heredocs = read_bodies(reader, line)
    where = where or SourceRange(reader.name, line.first, reader.at)
    comments = tuple(map(_shown, line.comments))
    _check_text(line.text, *(doc.content for doc in heredocs))
    return Statement(keyword, flags, rest, line.text, reader.escape, where, comments, heredocs)


def _close(stages: list[Stage], members: list[Instruction]) -> None:
    """Gives the instructions collected since to the last stage."""
    if stages and members:
        last = stages[-1]
        stages[-1] = Stage(last.index, last.origin, tuple(members), last.comment)
        members.clear()


def _doc_comment(origin: From) -> str:
    """What the comment ``# NAME description`` above the stage NAME says."""
    start = f"{origin.name} "
    lines = (text for text in origin.comments if origin.name and text.startswith(start))
    return next(lines, "").removeprefix(start)


def _decoded(text: str | bytes) -> str:
    """Bytes that are no UTF-8 become lone surrogates: harmless in a comment, refused by `_check_text`."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


def _check_text(*texts: str) -> None:
    for text in texts:
        if not text.isascii() and any("\ud800" <= ch <= "\udfff" for ch in text):
            raise DockerfileError("the text is not valid UTF-8", cure="Save the file as UTF-8.")


def _shown(source: str) -> str:
    return source if source.isascii() else source.encode("utf-8", "replace").decode("utf-8")


def _nothing_to_build(source: str, name: str, has_args: bool) -> DockerfileError:
    if has_args:
        message = "dockerfile contains no stages to build"
    else:
        message = "file with no instructions" if source else "the Dockerfile cannot be empty"
    return DockerfileError(
        message, cure="Begin with FROM IMAGE, or FROM scratch.", where=SourceRange(name, 1, 1)
    )
