"""``minibuild rmi``."""

from __future__ import annotations

from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.engine.images import LocalImages
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("rmi", help="Remove a name from the store.")(command)


def command(names: Annotated[list[str], typer.Argument(help="Names of images.")]) -> None:
    with reported(), open_store() as store:
        images = LocalImages(store)
        for name in names:
            reference = Reference.parse(name)
            images.untag(reference)
            print(f"Untagged: {reference.familiar}")
