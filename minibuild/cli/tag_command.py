"""``minibuild tag``."""

from __future__ import annotations

from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.engine.images import LocalImages
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("tag", help="Give an image another name.")(command)


def command(
    source: Annotated[str, typer.Argument(help="Name of an image.")],
    name: Annotated[str, typer.Argument(help="The further name.")],
) -> None:
    with reported(), open_store() as store:
        LocalImages(store).retag(Reference.parse(source), Reference.parse(name))
