"""``minibuild compose``: images out of the layers of others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.interrupts import stoppable
from minibuild.cli.progress import sink_for
from minibuild.engine.compose import ComposeRequest, diff_layers, merge
from minibuild.errors import UsageError
from minibuild.exporters.spec import OutputSpec, parse_output
from minibuild.oci.reference import Reference

_Texts = list[str] | None
_Tag = Annotated[_Texts, typer.Option("-t", "--tag", help="Name of the image; repeatable.")]
_Output = Annotated[_Texts, typer.Option("-o", "--output", help="type=oci|docker|local|tar|image,...")]
_Push = Annotated[bool, typer.Option("--push", help="Push the image under its tags.")]
_Config = Annotated[str, typer.Option("--config-from", help="The image whose configuration to take.")]
_Platform = Annotated[str, typer.Option("--platform", help="Platform of all images.")]
_Pull = Annotated[str, typer.Option("--pull", help="missing, newer, always or never.")]
_Mirror = Annotated[_Texts, typer.Option("--registry-mirror", help="REGISTRY=MIRROR.")]
_Insecure = Annotated[_Texts, typer.Option("--insecure-registry", help="Plain http.")]
_Progress = Annotated[str, typer.Option("--progress", help="auto, plain, tty, rawjson or quiet.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("merge", help="Lay the layers of images upon one another, the first lowest.")(merge_command)
    group.command("diff", help="Make an image of what one has over another, as layers.")(diff_command)
    app.add_typer(group, name="compose", help="Put images together of others' layers.")


def merge_command(
    images: Annotated[
        list[str], typer.Argument(help="Names, oci-layout://FOLDER[:TAG], ./ARCHIVE or scratch.")
    ],
    tag: _Tag = None,
    output: _Output = None,
    push: _Push = False,
    config_from: _Config = "",
    platform: _Platform = "",
    pull: _Pull = "missing",
    registry_mirror: _Mirror = None,
    insecure_registry: _Insecure = None,
    progress: _Progress = "auto",
) -> None:
    with reported():
        request = _request(
            images, tag, output, push, config_from, platform, pull, registry_mirror, insecure_registry
        )
        _run(merge, request, progress)


def diff_command(
    lower: Annotated[str, typer.Argument(help="Name, oci-layout://FOLDER[:TAG], ./ARCHIVE or scratch.")],
    upper: Annotated[str, typer.Argument(help="The image whose layers above it are wanted.")],
    tag: _Tag = None,
    output: _Output = None,
    push: _Push = False,
    config_from: _Config = "",
    platform: _Platform = "",
    pull: _Pull = "missing",
    registry_mirror: _Mirror = None,
    insecure_registry: _Insecure = None,
    progress: _Progress = "auto",
) -> None:
    with reported():
        images = [lower, upper]
        request = _request(
            images, tag, output, push, config_from, platform, pull, registry_mirror, insecure_registry
        )
        _run(diff_layers, request, progress)


def _request(
    images: list[str],
    tag: _Texts,
    output: _Texts,
    push: bool,
    config_from: str,
    platform: str,
    pull: str,
    mirrors: _Texts,
    insecure: _Texts,
) -> ComposeRequest:
    outputs = [parse_output(text) for text in output or ()]
    if push:
        if not tag:
            raise UsageError("--push without a name", cure="Name the image with -t REGISTRY/NAME:TAG.")
        outputs.append(OutputSpec("image", push=True))
    if not tag and not outputs:
        raise UsageError("the image would go nowhere", cure="Name it with -t, or write it with -o.")
    return ComposeRequest(
        images=tuple(images),
        config_from=config_from,
        tags=tuple(Reference.parse(one) for one in tag or ()),
        outputs=tuple(outputs),
        platform=options.platform(platform),
        pull=pull,
        registry=options.registry_options(mirrors, insecure),
    )


def _run(compose: Callable[..., Any], request: ComposeRequest, progress: str) -> None:
    with options.open_store() as store, sink_for(progress, sys.stderr) as sink, stoppable() as cancel:
        print(compose(request, store=store, sink=sink, cancel=cancel).image_id)
