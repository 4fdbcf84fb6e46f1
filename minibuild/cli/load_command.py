"""``minibuild load``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.engine.load import load
from minibuild.errors import UsageError
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("load", help="Read an image from an archive or layout.")(command)


def command(
    input_: Annotated[
        str, typer.Option("-i", "--input", help="Archive or layout folder (default: standard input).")
    ] = "-",
    tag: Annotated[str, typer.Option("-t", "--tag", help="Name for the image.")] = "",
) -> None:
    with reported():
        if input_ == "-" and sys.stdin.isatty():
            raise UsageError("an archive does not come from a terminal", cure="Name a file with -i.")
        path = Path(input_)
        if input_ != "-" and not path.exists():
            raise UsageError(f"no file or folder {path}", cure="Check the path.")
        with options.open_store() as store:
            source = sys.stdin.buffer if input_ == "-" else path
            for name, digest in load(store, source, Reference.parse(tag) if tag else None):
                print(f"Loaded image: {name.familiar} ({digest})")
