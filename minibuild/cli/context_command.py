"""``minibuild context ls``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.contexts import given
from minibuild.cli.exits import reported
from minibuild.cli.sink import human_size
from minibuild.engine.contextlist import ContextList, ListedPath, list_context
from minibuild.engine.request import BuildRequest


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="See what goes into a build.", no_args_is_help=True)
    group.command("ls", help="List what a build sees of its context, with sizes.")(command)

    @group.callback()
    def _group() -> None:
        """See what goes into a build."""

    app.add_typer(group, name="context")


def command(
    context: Annotated[str, typer.Argument(help="Folder, archive or URL; - for an archive on stdin.")] = ".",
    file: Annotated[str, typer.Option("-f", "--file", help="Dockerfile, for its own ignore file.")] = "",
    ignorefile: Annotated[str, typer.Option("--ignorefile", help="In place of .dockerignore.")] = "",
    why: Annotated[bool, typer.Option("--why", help="Also what is ignored, and by which line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    with reported(), ExitStack() as stack:
        found = given(context, file, sys.stdin.buffer, stack)
        request = BuildRequest(**found._asdict(), ignorefile=Path(ignorefile) if ignorefile else None)
        listed = list_context(request, store=stack.enter_context(options.open_store()))
        if as_json:
            print(json.dumps(_document(context, listed), indent=2))
        else:
            print(_text(listed, why))


def _text(listed: ContextList, why: bool) -> str:
    shown = listed.paths if why else listed.seen
    width = max((len(human_size(path.size)) for path in shown), default=0)
    lines = []
    for path in shown:
        size = human_size(path.size) if path.type == "file" or path.ignored else ""
        text = f"{size:>{width}}  {_printable(path)}"
        if why:
            text = f"{'ignored' if path.ignored else '':<8}{text}"
            if path.line is not None:
                text += f"   {listed.ignore_file}:{path.line.number} {path.line.text}"
        lines.append(text.rstrip())
    seen, ignored = listed.seen, listed.ignored
    total = sum(path.size for path in seen)
    files = sum(path.type != "folder" for path in seen)
    closing = f"{files} file{'' if files == 1 else 's'}, {human_size(total)}"
    if ignored:
        closing += f"; ignored: {len(ignored)}, {human_size(sum(path.size for path in ignored))}"
        closing += "" if why else " (--why shows them)"
    return "\n".join([*lines, closing])


def _printable(path: ListedPath) -> str:
    text = path.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return text + ("/" if path.type == "folder" else "")


def _document(context: str, listed: ContextList) -> dict[str, object]:
    return {
        "context": context,
        "ignore_file": listed.ignore_file,
        "bytes": sum(path.size for path in listed.seen),
        "seen": [_row(path) for path in listed.seen],
        "ignored": [_row(path) for path in listed.ignored],
    }


def _row(path: ListedPath) -> dict[str, object]:
    row: dict[str, object] = {"path": path.path, "type": path.type, "bytes": path.size}
    if path.line is not None:
        row |= {"line": path.line.number, "pattern": path.line.text}
    return row
