"""``minibuild doctor``."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    from minibuild.engine.doctor import Report

_CANNOT_RUN = 3


def register(app: typer.Typer) -> None:
    app.command("doctor", help="Tell what this machine lets a build do, and what would help.")(command)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    registry: Annotated[
        list[str] | None, typer.Option("--registry", help="An image whose registry to ask for it.")
    ] = None,
    registry_mirror: Annotated[
        list[str] | None, typer.Option("--registry-mirror", help="REGISTRY=MIRROR.")
    ] = None,
    insecure_registry: Annotated[
        list[str] | None, typer.Option("--insecure-registry", help="Plain http.")
    ] = None,
) -> None:
    """Ends with 0 where RUN can be executed, 3 where not."""
    from minibuild.engine.doctor import examine

    with reported(), options.open_store() as store:
        report = examine(
            store,
            registries=[Reference.parse(name) for name in registry or ()],
            options=options.registry_options(registry_mirror, insecure_registry),
        )
        print(json.dumps(report.to_json(), indent=2) if as_json else text(report))
        raise SystemExit(0 if report.mode else _CANNOT_RUN)


def text(report: Report) -> str:
    """The report for people."""
    from minibuild.cli.version import version

    lines = [f"minibuild {version()}, Python {platform.python_version()}, {platform.machine()}", ""]
    if report.mode:
        lines.append(f"isolation of RUN: {report.mode}")
    else:
        lines.append("isolation of RUN: none works; what has no RUN builds and pushes as anywhere")
    for mode in report.modes:
        if not mode.possible and not mode.works:
            continue
        chosen = mode.mode == report.mode
        state = "->" if chosen else "ok" if mode.works else "no"
        lines.append(f"  {state}  {mode.mode} (--isolation {mode.isolation}): {mode.promise}")
        if mode.reason:
            lines.append(f"        {mode.reason}")
        lines += [f"        fix: {line}" for line in mode.cure.splitlines()]
    lines.append("")
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        mark = {"ok": "ok", "warning": "!!", "missing": "no"}[check.state]
        lines.append(f"  {mark}  {check.name:<{width}}  {check.value}")
        if check.cure and check.state != "ok":
            lines.append(f"      {'':<{width}}  fix: {check.cure}")
    return "\n".join(lines)
