"""``minibuild run``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from minibuild.cli import options, run_options
from minibuild.cli.exits import reported
from minibuild.cli.progress import Quiet
from minibuild.engine.runimage import RunRequest, Signals, run_image
from minibuild.errors import Cancelled, UsageError
from minibuild.oci.reference import Reference

_Texts = list[str] | None

_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
_PATIENCE = 3  # as docker: so many requests to end, and the process is killed


def register(app: typer.Typer) -> None:
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command("run", help="Run an image's command in the sandbox.", context_settings=settings)(command)


def command(
    image: Annotated[str, typer.Argument(help="Name of an image.")],
    args: Annotated[_Texts, typer.Argument(help="Command instead of the image's CMD.")] = None,
    env: Annotated[_Texts, typer.Option("-e", "--env", help="NAME=VALUE, or NAME to pass it on.")] = None,
    user: Annotated[str | None, typer.Option("-u", "--user", help="User instead of the image's.")] = None,
    workdir: Annotated[str | None, typer.Option("-w", "--workdir", help="Folder to start in.")] = None,
    entrypoint: Annotated[str | None, typer.Option("--entrypoint", help="Program to start.")] = None,
    hostname: Annotated[str, typer.Option("-h", "--hostname", help="Host name inside.")] = "minibuild",
    network: Annotated[str, typer.Option("--network", help="host or none.")] = "host",
    publish: Annotated[_Texts, typer.Option("-p", "--publish", help="Taken for docker's sake.")] = None,
    remove: Annotated[bool, typer.Option("--rm", help="Always so.")] = True,
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Pass standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Standard input is a terminal.")] = False,
    registry_mirror: Annotated[_Texts, typer.Option("--registry-mirror", help="REGISTRY=MIRROR.")] = None,
    isolation: Annotated[
        str, typer.Option("--isolation", envvar="MINIBUILD_ISOLATION", help="auto, or a mode doctor names.")
    ] = "auto",
    oci_runtime: Annotated[
        str, typer.Option("--oci-runtime", envvar="MINIBUILD_OCI_RUNTIME", help="runc, crun or a path.")
    ] = "",
) -> None:
    with reported():
        for port in publish or ():
            _note_port(port, network)
        request = RunRequest(
            image=Reference.parse(image),
            args=tuple(args or ()),
            entrypoint=entrypoint,
            env=(*_terminal(tty), *options.pairs(env, "--env", from_environment=True).items()),
            user=user,
            workdir=workdir,
            hostname=hostname,
            network=run_options.network(network),
            registry=options.registry_options(registry_mirror, None),
            isolation=options.isolation(isolation),
            oci_runtime=oci_runtime,
        )
        raise SystemExit(_run(request, interactive or tty))


def _terminal(tty: bool) -> tuple[tuple[str, str], ...]:
    return (("TERM", os.environ.get("TERM", "xterm")),) if tty else ()


def _note_port(port: str, network: str) -> None:
    outside, _, inside = port.rpartition(":")
    outside = outside.rpartition(":")[2] or inside
    inside = inside.partition("/")[0]
    if not inside.isdigit() or not outside.isdigit():
        raise UsageError(f"-p {port}", cure="Write it as -p PORT or -p PORT:PORT.")
    if network == "none":
        raise UsageError(f"-p {port} with --network=none", cure="Leave one of the two out.")
    if inside != outside:
        note = f"the image uses this machine's network and listens on {inside} there, not on {outside}"
    else:
        note = f"the image uses this machine's network: port {inside} is open as it is"
    print(f"NOTE: -p {port}: {note}", file=sys.stderr)


def _run(request: RunRequest, with_input: bool) -> int:
    signals = Signals()
    asked: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            asked.append(number)
        if len(asked) >= _PATIENCE:
            signals.stop.set()
        elif signals.running or number not in (signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2):
            signals.send(number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    stdin = 0 if with_input else os.open(os.devnull, os.O_RDONLY)
    try:
        with options.open_store() as store:
            status = run_image(
                request, store=store, stdio=(stdin, 1, 2), sink=Quiet(sys.stderr), signals=signals
            )
    except Cancelled:
        return 128 + asked[-1] if asked else 129
    return status.code
