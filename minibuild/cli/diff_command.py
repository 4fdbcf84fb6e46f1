"""``minibuild diff``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store, registry_options
from minibuild.cli.sink import human_size
from minibuild.errors import UsageError
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.engine.imagediff import ConfigChange, ImageDiff, LayerChange

_MARKS = {"added": "+", "removed": "-", "changed": "~"}


def register(app: typer.Typer) -> None:
    app.command("diff", help="Compare two images: layers, files, configuration.")(command)


def command(
    before: Annotated[str, typer.Argument(help="Name of an image, or a build's id.")],
    after: Annotated[str, typer.Argument(help="Name or build of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from minibuild.engine.imagediff import diff_images

    with reported(), open_store() as store:
        found = diff_images(
            store, _image(store, before), _image(store, after), options=registry_options(None, None)
        )
        if as_json:
            _print_json(found)
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


def _print_json(found: ImageDiff) -> None:
    """As `json.dumps` would indent it, one file at a time."""
    print(f'{{\n  "shared_layers": {found.shared},\n  "layers": {_json(found.layers)},\n  "files": [', end="")
    for number, file in enumerate(found.files):
        text = json.dumps(file._asdict(), indent=2).replace("\n", "\n    ")
        print("," if number else "", f"    {text}", sep="\n", end="")
    print("\n  ]" if len(found.files) else "]", f',\n  "config": {_json(found.config)}\n}}', sep="")


def _json(changes: tuple[LayerChange, ...] | tuple[ConfigChange, ...]) -> str:
    return json.dumps([one._asdict() for one in changes], indent=2).replace("\n", "\n  ")


def _image(store: Store, text: str) -> Reference:
    """The image called `text`, or else the one that the build `text` made; raises `UsageError`."""
    from minibuild.cache.builds import Builds
    from minibuild.engine.images import LocalImages

    images = LocalImages(store)
    asks_for_build = text == "last" or text.startswith("last~")
    if not asks_for_build and images.find(Reference.parse(text)) is not None:
        return Reference.parse(text)
    try:
        record = Builds(store).find(text)
    except UsageError:
        if asks_for_build:
            raise
        return Reference.parse(text)  # the comparison says that there is none
    for named in images.all():
        if str(images.config_digest(named)) == record.image:
            return named.name
    raise UsageError(
        f"the image of build {record.id} has no name here",
        cure="Build it again with -t, or compare the builds' steps: minibuild builds compare.",
    )
