"""Small histories, replayed and executed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minibuild_store.store import Store

from minibuild.engine.request import BuildRequest
from minibuild.lab.execute import execute
from minibuild.lab.history import History
from minibuild.lab.replay import Built, Outcome, Replayer, ReplaySpec
from minibuild.lab.shelf import Room
from minibuild.lab.trace import Content, Edit, write_repository
from minibuild.lab.variants import Variant, Written

START = 1_600_000_000
KEPT = Room()


def repository(folder: Path, *commits: dict[str, Content]) -> Path:
    """A repository of these commits, an hour apart."""
    edits = [Edit(START + 3600 * number, files) for number, files in enumerate(commits)]
    write_repository(folder, edits)
    return folder


class Both:
    """The same commits by keys alone and executed."""

    def __init__(
        self,
        root: Path,
        commits: Sequence[dict[str, Content]],
        *,
        bases: Path | None = None,
        room: Room = KEPT,
        shared: bool = False,
        **options: Any,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        variant = Variant(
            "v", Written("Dockerfile", "Dockerfile", path="Dockerfile"), room=room, shared=shared
        )
        contexts = {} if bases is None else {"busybox": f"oci-layout://{bases}:busybox"}
        request = BuildRequest(context=None, contexts=contexts)
        with History(repository(root / "git", *commits)) as history, Store.open(root / "store") as store:
            spec = ReplaySpec(
                commits=history.commits(), variants=[variant], request=request, offline=True, **options
            )
            with Replayer(history, spec, store) as replayer:
                self.thought: Outcome = replayer.outcome(variant)
            self.real: Outcome = execute(history, spec, variant, temporary=root)


def hits(outcome: Outcome) -> list[str]:
    """Each commit's build as a word: ``H`` and ``m``, step by step, ``!`` where it fails."""
    return [word(built) for built in outcome.builds]


def word(built: Built) -> str:
    return "".join("H" if step.hit else "m" for step in built.steps) + "!" * bool(built.error)
