"""The entry point: picks the command's module, so that a build never loads what it does not use.

Exit codes: 0 done; 1 the Dockerfile, a RUN or the build failed; 2 wrong usage; 3 this machine cannot
run the step; 4 a registry refused, failed or lied; 5 a result could not be written; 130 interrupted.
`minibuild run` ends with the exit code of what it ran.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys

COMMANDS = {
    "build": "Build an image from a Dockerfile.",
    "context": "See what goes into a build.",
    "run": "Run an image's command in the sandbox.",
    "images": "List the images in the store.",
    "history": "Show how an image was made, line by line.",
    "inspect": "Print an image's configuration as JSON.",
    "tag": "Give an image another name.",
    "rmi": "Remove a name from the store.",
    "push": "Push an image to its registry.",
    "pull": "Fetch an image from its registry.",
    "save": "Write an image to an archive.",
    "load": "Read an image from an archive or layout.",
    "cache": "Look after the cache.",
    "builds": "Look at past builds.",
    "diff": "Compare two images.",
    "compose": "Put images together of others' layers.",
    "lab": "Measure hit rates over a project's history.",
    "doctor": "Tell what this machine lets a build do.",
}


def process() -> None:
    """Run the command line and end the process: what the console script calls."""
    # What is loaded lives until the end: looking through it for garbage took a tenth of a cached build.
    gc.set_threshold(50_000, 20, 50)
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_closed_streams()
    try:
        try:
            main()
        except KeyboardInterrupt:  # before a command was begun, or after it
            raise SystemExit(130) from None
        except OSError as error:  # of help and the like; commands tell theirs
            raise SystemExit(_unwritten(error)) from None
    except SystemExit as end:
        _leave(end)
        raise


def _fill_closed_streams() -> None:
    """Put something in the place of closed standard streams, before a file of ours gets their number.

    Input is empty, messages are dropped; to write a result fails.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest number that is free
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _leave(end: SystemExit) -> None:
    """End the process without taking the interpreter apart, which would take another tenth.

    Returns where that is not to be: output could not be written, threads are still at work.
    """
    import threading

    if not (end.code is None or isinstance(end.code, int)) or threading.active_count() > 1:
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        os._exit(end.code or _unwritten(error))
    except ValueError:
        return
    os._exit(end.code or 0)


def _unwritten(error: OSError) -> int:
    """Say why output could not be written, unless its reader has gone; the exit code."""
    if isinstance(error, BrokenPipeError):
        return 1
    from minibuild.cli.exits import of_the_system, system_code

    with contextlib.suppress(OSError):
        print(f"ERROR: {of_the_system(error)}", file=sys.stderr, flush=True)
    return system_code(error)


def main() -> None:
    """Run the command line; always ends with `SystemExit`."""
    arguments = sys.argv[1:]
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name in COMMANDS and arguments[0] == name:
        if name == "build":
            arguments = _build(arguments)
        _run([name], arguments)
    if arguments[:1] == ["--version"]:
        from minibuild.cli.version import version

        print(f"minibuild {version()}")
        raise SystemExit(0)
    if name and arguments[0] == name:
        from minibuild.dockerfile.suggest import did_you_mean

        hint = did_you_mean(name, COMMANDS)
        print(f"minibuild: no command {name!r}{hint}; minibuild --help lists them", file=sys.stderr)
        raise SystemExit(2)
    _run(list(COMMANDS), arguments)


def _build(arguments: list[str]) -> list[str]:
    """Build at once where the command line is a plain one; else return it with all its values."""
    from minibuild.cli import build_command, plain

    arguments = plain.completed(arguments)
    values = plain.read(arguments[1:], build_command.command, os.environ)
    if values is not None:
        build_command.command(**values)
        raise SystemExit(0)
    return arguments


def _run(names: list[str], arguments: list[str]) -> None:
    from importlib import import_module

    import typer

    app = typer.Typer(
        name="minibuild",
        help="Build OCI images from Dockerfiles with no daemon and no root.",
        add_completion=len(names) > 1,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(epilog=" ".join((__doc__ or "").partition("Exit codes")[1:]).replace("\n", " "))
    def _root() -> None:
        """Build OCI images from Dockerfiles with no daemon and no root."""

    for name in names:
        import_module(f"minibuild.cli.{name}_command").register(app)
    try:
        app(args=arguments, prog_name="minibuild")
    except SystemExit as end:
        if end.code == 2 and names == ["build"]:
            from minibuild.cli.refused import sentences

            for sentence in sentences(arguments):
                print(sentence, file=sys.stderr)
        raise
