"""``minibuild pull``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.interrupts import stoppable
from minibuild.cli.progress import sink_for
from minibuild.engine.transfer import pull
from minibuild.oci.reference import Reference

_Texts = list[str] | None


def register(app: typer.Typer) -> None:
    app.command("pull", help="Fetch an image from its registry.")(command)


def command(
    image: Annotated[str, typer.Argument(help="Name of an image.")],
    platform: Annotated[str, typer.Option("--platform", help="Platform to fetch.")] = "",
    registry_mirror: Annotated[_Texts, typer.Option("--registry-mirror", help="REGISTRY=MIRROR.")] = None,
    insecure_registry: Annotated[_Texts, typer.Option("--insecure-registry", help="Plain http.")] = None,
    progress: Annotated[str, typer.Option("--progress", help="auto, plain, tty, rawjson or quiet.")] = "auto",
) -> None:
    with (
        reported(),
        options.open_store() as store,
        sink_for(progress, sys.stderr) as sink,
        stoppable() as cancel,
    ):
        found = pull(
            store,
            Reference.parse(image),
            platform=options.platform(platform),
            options=options.registry_options(registry_mirror, insecure_registry),
            sink=sink,
            cancel=cancel,
        )
        print(found.digest)
