"""``minibuild images``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.tables import age, table
from minibuild.engine.images import LocalImages


def register(app: typer.Typer) -> None:
    app.command("images", help="List the images in the store.")(command)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document a line.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the IDs.")] = False,
) -> None:
    with reported(), open_store() as store:
        images = LocalImages(store)
        found = images.all()
        if quiet:
            for image in found:
                print(images.config_digest(image))
            return
        if as_json:
            for image in found:
                size = sum(layer.size for layer in image.image.layers)
                document = {
                    "name": str(image.name),
                    "digest": image.id,
                    "id": images.config_digest(image),
                    "created": image.created,
                    "size": size,
                }
                print(json.dumps(document))
            return
        rows = [
            (
                image.name.familiar.rpartition(":")[0] or image.name.familiar,
                image.name.tag,
                images.config_digest(image).short,
                age(image.created),
                human_size(sum(layer.size for layer in image.image.layers)),
            )
            for image in found
        ]
        print(table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows))
