"""``minibuild save``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.interrupts import stoppable
from minibuild.engine.transfer import save
from minibuild.errors import UsageError
from minibuild.exporters.spec import parse_output
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("save", help="Write an image to an archive.")(command)


def command(
    images: Annotated[list[str], typer.Argument(help="Names of one image.")],
    output: Annotated[str, typer.Option("-o", "--output", help="File (default: standard output).")] = "-",
    form: Annotated[str, typer.Option("--format", help="docker or oci.")] = "docker",
) -> None:
    with reported():
        if form not in ("docker", "oci"):
            raise UsageError(f"--format {form}", cure="Known are docker and oci.")
        if output == "-" and sys.stdout.isatty():
            raise UsageError("an archive does not go to a terminal", cure="Name a file with -o.")
        names = [Reference.parse(name) for name in images]
        spec = parse_output(f"type={form},dest={output}")
        with options.open_store() as store, stoppable() as cancel:
            save(store, names, spec, cancel=cancel, stdout=sys.stdout.buffer)
