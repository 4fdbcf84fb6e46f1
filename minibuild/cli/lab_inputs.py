"""What ``minibuild lab`` works on: a history, what is built at each commit, and with which cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minibuild.cli import options
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.cli.lab_options import Texts
    from minibuild.lab.costs import Costs
    from minibuild.lab.history import History
    from minibuild.lab.replay import ReplaySpec
    from minibuild.lab.shelf import Room

_SECONDS = 5.0
"""How long a registry may take to tell of a base; what it does not tell is taken to be constant."""


@contextmanager
def open_history(git: str, trace: str) -> Iterator[History]:
    """The repository, or one made of a trace for as long as it is needed."""
    import tempfile

    from minibuild.lab.history import History
    from minibuild.lab.trace import read_trace, write_repository

    if git and trace:
        raise UsageError("--git and --trace were both given", cure="Give one of them.")
    if not trace:
        with History(Path(git or ".")) as history:
            yield history
        return
    with tempfile.TemporaryDirectory(prefix="minibuild-lab-") as folder:
        write_repository(Path(folder, "git"), read_trace(Path(trace)))
        with History(Path(folder, "git")) as history:
            yield history


def request_for(target: str, build_arg: Texts, build_context: Texts, platform: str) -> Any:
    """What each commit is built with; registries are asked once and briefly."""
    from minibuild.engine.request import BuildRequest
    from minibuild.values import replace

    registry = options.registry_options(None, None)
    quick = replace(registry, attempts=1, connect_timeout=_SECONDS, read_timeout=_SECONDS)
    return BuildRequest(
        context=None,
        target=target,
        build_args=options.pairs(build_arg, "--build-arg", from_environment=True),
        contexts=options.pairs(build_context, "--build-context"),
        platform=options.platform(platform),
        registry=quick,
    )


def spec_for(
    history: History,
    store: Store,
    span: str,
    last: int,
    context: str,
    request: Any,
    without_git: bool,
    offline: bool,
    costs: str,
) -> tuple[ReplaySpec, Any]:
    """What is replayed, as yet without variants, and the last commit's files."""
    from minibuild.lab.replay import ReplaySpec
    from minibuild.lab.view import Snapshot

    found = history.commits(span or "HEAD", last)
    folder = os.path.normpath(context).strip("/") if context else ""
    folder = "" if folder == "." else folder
    snapshot = Snapshot(history, found[-1], folder, git_folder=False)
    if snapshot.root is None:
        raise UsageError(
            f"--context {context}: the last commit has no such folder",
            cure="Name a folder of the repository.",
        )
    spec = ReplaySpec(
        commits=found,
        variants=(),
        request=request,
        folder=folder,
        git_folder=not without_git,
        offline=offline,
        costs=_cost_tables(costs, store),
    )
    return spec, snapshot


def _cost_tables(file: str, store: Store) -> Costs:
    from minibuild.lab.costs import Costs, measured, read_costs

    return Costs(read_costs(Path(file)) if file else None, measured(store))


def rooms_for(policies: Sequence[str], sizes: Sequence[str]) -> list[Room]:
    """Each rule of ``--policy`` with each ``--size``."""
    from minibuild.engine.upkeep import parse_size
    from minibuild.lab.shelf import room

    names = policies or (["value"] if sizes else ["none"])
    limits = [parse_size(size, "--size") for size in sizes]
    return [
        room(name, limit) for name in names for limit in (limits if name != "none" and limits else [None])
    ]


def is_shared(word: str) -> bool:
    """Whether ``--cache`` means a registry's, so that each build begins on a fresh machine."""
    if word not in ("local", "registry"):
        raise UsageError(f"--cache {word!r} is neither local nor registry")
    return word == "registry"
