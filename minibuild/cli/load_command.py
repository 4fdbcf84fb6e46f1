"""``minibuild load``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.engine.transfer import load
from minibuild.errors import UsageError
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("load", help="Read an image from an archive or layout.")(command)


def command(
    input_: Annotated[str, typer.Option("-i", "--input", help="Archive or layout folder.")],
    tag: Annotated[str, typer.Option("-t", "--tag", help="Name for the image.")] = "",
) -> None:
    with reported(), options.open_store() as store:
        path = Path(input_)
        if not path.exists():
            raise UsageError(f"no file or folder {path}", cure="Check the path.")
        for name, digest in load(store, path, Reference.parse(tag) if tag else None):
            print(f"Loaded image: {name.familiar} ({digest})")
