"""``minibuild cache tree``: the stages and steps of the last builds, and whether their layers are here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.cache.builds import BuildRecord
    from minibuild.cache.journal import StepRow


def register(group: typer.Typer) -> None:
    group.command("tree", help="Show the steps of the last builds as a tree.")(tree)


def tree(
    words: Annotated[str, typer.Argument(help="Part of the Dockerfile's path; all by default.")] = "",
) -> None:
    from minibuild.cache.builds import Builds

    with reported(), open_store() as store:
        latest: dict[str, BuildRecord] = {}
        for record in Builds(store).all():
            if record.status == "done" and words in record.dockerfile:
                latest.setdefault(record.place, record)
        if words and not latest:
            raise UsageError(f"no build of {words!r} is known", cure="minibuild builds ls lists them.")
        for record in latest.values():
            print(record.dockerfile)
            for line in _stages(store, record, ""):
                print(line)


def _stages(store: Store, record: BuildRecord, base: str, indent: str = "") -> Iterator[str]:
    """The stages on `base`, a stage's name, each with its steps and what is built on it; "" for images."""
    names = {f"stage {stage.name}" for stage in record.stages}
    found = [
        stage
        for stage in record.stages
        if stage.base == f"stage {base}" or (not base and stage.base not in names)
    ]
    for number, stage in enumerate(found):
        last = number == len(found) - 1
        inner = indent + ("   " if last else "│  ")
        yield f"{indent}{'└─' if last else '├─'} {stage.name}  ({stage.base})"
        rows = record.of_stage(stage.name)
        above = list(_stages(store, record, stage.name, inner))
        for at, row in enumerate(rows):
            mark = "└─" if at == len(rows) - 1 and not above else "├─"
            yield f"{inner}{mark} {_step(store, row)}"
        yield from above


def _step(store: Store, row: StepRow) -> str:
    from minibuild.cache.steps import StepCache

    record = StepCache(store).get(row.key)
    line = row.instruction.split("\n", 1)[0]
    text = line if len(line) <= 70 else line[:69] + "…"
    if record is None:
        return f"{text}  evicted"
    descriptor = record.layer.descriptor
    where = "" if store.blobs.has(descriptor.digest, descriptor.size) else ", not here"
    return f"{text}  {human_size(descriptor.size)}, {record.seconds:.1f}s{where}"
