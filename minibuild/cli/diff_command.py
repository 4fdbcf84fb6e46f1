"""``minibuild diff``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store, registry_options
from minibuild.cli.sink import human_size
from minibuild.oci.reference import Reference

_MARKS = {"added": "+", "removed": "-", "changed": "~"}


def register(app: typer.Typer) -> None:
    app.command("diff", help="Compare two images: layers, files, configuration.")(command)


def command(
    before: Annotated[str, typer.Argument(help="Name of an image.")],
    after: Annotated[str, typer.Argument(help="Name of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from minibuild.engine.imagediff import diff_images

    with reported(), open_store() as store:
        found = diff_images(
            store, Reference.parse(before), Reference.parse(after), options=registry_options(None, None)
        )
        if as_json:
            document = {
                "shared_layers": found.shared,
                "layers": [one._asdict() for one in found.layers],
                "files": [one._asdict() for one in found.files],
                "config": [one._asdict() for one in found.config],
            }
            print(json.dumps(document, indent=2))
            return
        print(f"layers: {found.shared} shared")
        for layer in found.layers:
            size = human_size(layer.bytes)
            print(f"{_MARKS[layer.change]} {layer.diff_id[7:19]}  {size:>8}  {layer.created_by}")
        growth = sum(one.bytes for one in found.files)
        sign = "-" if growth < 0 else "+"
        print(f"\nfiles: {len(found.files)} differ, {sign}{human_size(abs(growth))}")
        for file in found.files:
            size = f"{'-' if file.bytes < 0 else '+'}{human_size(abs(file.bytes))}"
            more = f"  {', '.join(file.details)}" if file.details else ""
            print(f"{_MARKS[file.change]} {size:>9}  /{file.path}{more}")
        print(f"\nconfiguration: {len(found.config)} differ")
        for change in found.config:
            for mark, value in (("-", change.before), ("+", change.after)):
                if value is not None:
                    print(f"{mark} {change.field}: {value if isinstance(value, str) else json.dumps(value)}")
