"""``minibuild inspect``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.engine.images import LocalImages
from minibuild.oci.reference import Reference


def register(app: typer.Typer) -> None:
    app.command("inspect", help="Print an image's configuration as JSON.")(command)


def command(image: Annotated[str, typer.Argument(help="Name of an image.")]) -> None:
    with reported(), open_store() as store:
        reference = Reference.parse(image)
        found = LocalImages(store).get(reference)
        document = {
            "name": str(reference),
            "digest": found.digest,
            "layers": [layer.to_json() for layer in found.layers],
            "config": json.loads(found.config.to_bytes()),
        }
        print(json.dumps(document, indent=2))
