"""``minibuild history``."""

from __future__ import annotations

from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.tables import age, table
from minibuild.engine.images import LocalImages
from minibuild.oci.reference import Reference

_SHOWN = 60


def register(app: typer.Typer) -> None:
    app.command("history", help="Show how an image was made, line by line.")(command)


def command(
    image: Annotated[str, typer.Argument(help="Name of an image.")],
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Do not cut long lines.")] = False,
) -> None:
    with reported(), open_store() as store:
        found = LocalImages(store).get(Reference.parse(image))
        sizes = [layer.size for layer in found.layers]
        rows = []
        for line in found.config.history:
            size = 0 if line.empty_layer or not sizes else sizes.pop(0)
            text = (
                line.created_by
                if no_trunc or len(line.created_by) <= _SHOWN
                else line.created_by[: _SHOWN - 1] + "…"
            )
            rows.append((age(line.created), text.replace("\n", " "), human_size(size), line.comment))
        print(table(("CREATED", "CREATED BY", "SIZE", "COMMENT"), rows[::-1]))
