"""``minibuild push``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.interrupts import stoppable
from minibuild.cli.progress import sink_for
from minibuild.engine.transfer import push
from minibuild.exporters.spec import parse_output
from minibuild.oci.reference import Reference

_Texts = list[str] | None


def register(app: typer.Typer) -> None:
    app.command("push", help="Push an image to its registry.")(command)


def command(
    image: Annotated[str, typer.Argument(help="Name of an image.")],
    compression: Annotated[str, typer.Option("--compression", help="zstd, gzip or uncompressed.")] = "",
    insecure_registry: Annotated[_Texts, typer.Option("--insecure-registry", help="Plain http.")] = None,
    progress: Annotated[str, typer.Option("--progress", help="auto, plain, tty, rawjson or quiet.")] = "auto",
) -> None:
    with (
        reported(),
        options.open_store() as store,
        sink_for(progress, sys.stderr) as sink,
        stoppable() as cancel,
    ):
        text = "type=image,push=true" + (f",compression={compression}" if compression else "")
        result = push(
            store,
            Reference.parse(image),
            options=options.registry_options(None, insecure_registry),
            spec=parse_output(text),
            sink=sink,
            cancel=cancel,
        )
        assert result.descriptor is not None
        print(result.descriptor.digest)
