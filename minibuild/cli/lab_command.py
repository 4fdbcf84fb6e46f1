"""``minibuild lab``: hit rates over a project's real history, and what would better them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minibuild.cli import lab_options as given
from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.lab_inputs import is_shared, open_history, request_for, rooms_for, spec_for
from minibuild.errors import MinibuildError, UsageError

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.lab.history import History
    from minibuild.lab.replay import Replay, ReplaySpec
    from minibuild.lab.variants import Variant

_FORMATS = ("table", "json", "csv", "html")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("replay", help="What would have hit, commit by commit, without executing anything.")(replay)
    group.command("advise", help="Changes that would have saved time, each proved by a replay.")(advise)
    group.command("synth", help="Make up a history by a stated model.")(synth)
    app.add_typer(group, name="lab", help="Measure hit rates over a project's history.")


def replay(
    git: given.Git = "",
    trace: given.Trace = "",
    span: given.Range = "",
    last: given.Last = 0,
    file: given.Files = None,
    ignorefile: given.Ignores = None,
    policy: given.Policies = None,
    size: given.Sizes = None,
    cache: given.Caches = None,
    context: given.Context = "",
    target: given.Target = "",
    build_arg: given.Args = None,
    build_context: given.Contexts = None,
    platform: given.Platform = "",
    without_git: given.NoGit = False,
    costs: given.Costs = "",
    pull_rate: given.Rate = "20MB",
    execute: given.Execute = False,
    offline: given.Offline = False,
    warmup: given.Warmup = 1,
    seed: given.Seed = 1,
    commits: given.Commits = False,
    format: given.Format = "table",
    output: given.Output = "",
) -> None:
    from minibuild.engine.upkeep import parse_size
    from minibuild.lab.measures import measure
    from minibuild.lab.replay import check_built
    from minibuild.lab.variants import variants, written

    with reported(), ExitStack() as stack:
        _check_format(format, output)
        rooms = rooms_for(policy or [], size or [])
        shared = [is_shared(word) for word in cache or ["local"]]
        rate = parse_size(pull_rate, "--pull-rate")
        if rate < 1:
            raise UsageError(f"--pull-rate {pull_rate} is not a rate", cure="Write it as 20MB.")
        store = stack.enter_context(options.open_store())
        history = stack.enter_context(open_history(git, trace))
        request = request_for(target, build_arg, build_context, platform)
        spec, snapshot = spec_for(history, store, span, last, context, request, without_git, offline, costs)
        dockerfiles = [written(one, history, snapshot, "-f") for one in file or ["Dockerfile"]]
        ignores = [written(one, history, snapshot, "--ignorefile") for one in ignorefile or []]
        spec = _with(spec, variants(dockerfiles, ignores or [None], rooms, shared))
        _check_warmup(warmup, len(spec.commits))
        found, notes = _replayed(history, spec, store, execute)
        for outcome in found.outcomes:
            check_built(outcome.variant.name, outcome.builds)
        measured = measure(found, pull_rate=rate, warmup=warmup, seed=seed)
        if not measured.counted:
            raise MinibuildError(
                "no commit counts: at each one after --warmup a build fails",
                cure="Name another range, or replay the variants one by one to see where each fails.",
            )
        title = Path(trace or git or ".").resolve().name
        _write(output, _rendered(format, found, measured, notes, title, commits=commits))


def advise(
    git: given.Git = "",
    trace: given.Trace = "",
    span: given.Range = "",
    last: Annotated[int, typer.Option("--last", help="The last so many commits; 0 for all.", min=0)] = 200,
    file: Annotated[str, typer.Option("-f", "--file", help="Dockerfile: PATH, REV:PATH or on disk.")] = "",
    cache: Annotated[str, typer.Option("--cache", help="local, or registry: a fresh machine.")] = "local",
    context: given.Context = "",
    target: given.Target = "",
    build_arg: given.Args = None,
    build_context: given.Contexts = None,
    platform: given.Platform = "",
    without_git: given.NoGit = False,
    costs: given.Costs = "",
    pull_rate: given.Rate = "20MB",
    offline: given.Offline = False,
    seed: given.Seed = 1,
    format: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    output: given.Output = "",
) -> None:
    import json

    from minibuild.cli.lab_text import advice_text
    from minibuild.engine.upkeep import parse_size
    from minibuild.lab.advise import Adviser
    from minibuild.lab.document import advice_document
    from minibuild.lab.replay import Replayer
    from minibuild.lab.variants import Variant, written

    with reported(), ExitStack() as stack:
        _check_format(format, output, ("table", "json"))
        rate = parse_size(pull_rate, "--pull-rate")
        store = stack.enter_context(options.open_store())
        history = stack.enter_context(open_history(git, trace))
        request = request_for(target, build_arg, build_context, platform)
        spec, snapshot = spec_for(history, store, span, last, context, request, without_git, offline, costs)
        if len(spec.commits) < 2:
            raise UsageError("one commit is no history to learn from", cure="Take a longer range.")
        dockerfile = written(file or "Dockerfile", history, snapshot, "-f")
        variant = Variant(dockerfile.label, dockerfile, shared=is_shared(cache))
        text = (dockerfile.at(snapshot) or b"").decode("utf-8", "surrogateescape")
        ignore = variant.ignore_text(snapshot).decode("utf-8", "surrogateescape")
        replayer = stack.enter_context(Replayer(history, _with(spec, [variant]), store))
        adviser = Adviser(replayer, dockerfile, text, ignore, pull_rate=max(1, rate), seed=seed)
        shown = advice_document(adviser.report(_told()), len(spec.commits), [*replayer.notes()])
        _write(output, json.dumps(shown, indent=1) + "\n" if format == "json" else advice_text(shown))


def synth(
    git: Annotated[str, typer.Option("--git", help="Folder for a bare repository of it.")] = "",
    trace: Annotated[str, typer.Option("--trace", help="File for a trace, or - for standard output.")] = "",
    files: Annotated[int, typer.Option("--files", help="Files at the beginning.")] = 200,
    commits: Annotated[int, typer.Option("--commits", help="Commits.")] = 300,
    alpha: Annotated[float, typer.Option("--alpha", help="How unequal files are (Zipf).")] = 1.1,
    burst: Annotated[float, typer.Option("--burst", help="Probability that a burst goes on.")] = 0.7,
    manifests: Annotated[float, typer.Option("--manifests", help="Share of manifest edits.")] = 0.03,
    seed: Annotated[int, typer.Option("--seed", help="Of everything drawn.")] = 1,
) -> None:
    from minibuild.lab.synth import Model, synthesise
    from minibuild.lab.trace import dump_trace, write_repository

    with reported():
        if not git and not trace:
            raise UsageError("nowhere to write to", cure="Give --git FOLDER or --trace FILE.")
        edits = synthesise(
            Model(files=files, commits=commits, alpha=alpha, burst=burst, manifests=manifests, seed=seed)
        )
        if trace:
            _write("" if trace == "-" else trace, dump_trace(edits))
        if git:
            write_repository(Path(git), edits)
            print(f"{git}: {len(edits)} commits, {files} files at first, seed {seed}", file=sys.stderr)


def _told() -> Callable[[str], None]:
    """Names what is tried, on a terminal."""
    if not sys.stderr.isatty():
        return lambda title: None
    return lambda title: print(f"trying: {title}", file=sys.stderr)


def _rendered(
    format: str, found: Replay, measured: Any, notes: list[str], title: str, *, commits: bool
) -> str:
    from minibuild.cli.lab_text import replay_text
    from minibuild.lab.document import csv_text, document

    if format == "csv":
        return csv_text(found, measured)
    shown = document(found, measured, notes)
    if format == "json":
        import json

        return json.dumps(shown, indent=1) + "\n"
    if format == "html":
        from minibuild.lab.page import page

        return page(shown, title)
    return replay_text(shown, commits=commits)


def _replayed(history: History, spec: ReplaySpec, store: Store, executed: bool) -> tuple[Replay, list[str]]:
    """The replay and what should be known of it."""
    from minibuild.lab.replay import Replayer, notes_on

    with Replayer(history, spec, store) as replayer:
        if not executed:
            with _progress("commits") as tell:
                found = replayer.replay(tell)
            return found, [*found.notes, *notes_on(found, spec)]
        from minibuild.lab.execute import agreement, executed_replay

        with _progress("commits built") as tell:
            found = executed_replay(history, spec, tell)
        thought = replayer.replay()
        return found, [*thought.notes, *agreement(thought, found), *notes_on(found, spec)]


def _with(spec: ReplaySpec, found: Sequence[Variant]) -> ReplaySpec:
    from minibuild.values import replace

    return replace(spec, variants=tuple(found))


def _check_format(format: str, output: str, known: Sequence[str] = _FORMATS) -> None:
    if format not in known:
        from minibuild.dockerfile.suggest import did_you_mean

        hint = did_you_mean(format, known)
        raise UsageError(f"--format {format!r} is none of {', '.join(known)}{hint}")
    if output and not Path(output).absolute().parent.is_dir():
        raise UsageError(f"-o {output}: its folder does not exist", cure="Make it, or name another.")


def _check_warmup(warmup: int, commits: int) -> None:
    if warmup >= commits:
        raise UsageError(
            f"--warmup {warmup} leaves none of {commits} commits to count",
            cure="Take a longer range, or --warmup 0 to count the first build too.",
        )


def _write(output: str, text: str) -> None:
    """Print `text`, or write it to a file that appears whole."""
    from minibuild.exporters.target import output_file

    if not output:
        print(text, end="")
        return
    with output_file(Path(output)) as writer:
        writer.write(text.encode("utf-8", "replace"))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Counts on a terminal; silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return

    def tell(done: int, total: int) -> None:
        if done == total or not done % 10:
            print(f"\r{done}/{total} {what}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
