"""Build records, read back: the last builds, one of them, two compared."""

from __future__ import annotations

import json
from typing import Any

from minibuild_store.store import Store

from minibuild.cache.align import aligned
from minibuild.cache.journal import FORMAT, Cause, StageRow, StepRow
from minibuild.errors import UsageError
from minibuild.values import NamedTuple, dataclass


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """A finished build. `started` is in seconds since the epoch, `status` done, failed or cancelled."""

    id: str
    place: str
    dockerfile: str
    started: float
    seconds: float
    status: str
    error: str
    image: str
    tags: tuple[str, ...]
    stages: tuple[StageRow, ...]
    steps: tuple[StepRow, ...]

    @property
    def hits(self) -> int:
        """How many steps were cached."""
        return sum(step.hit for step in self.steps)

    @property
    def saved(self) -> float:
        """Seconds that executing the cached steps took when they were last executed."""
        return sum(step.saved for step in self.steps if step.hit)

    @property
    def bytes(self) -> int:
        """Bytes of the layers that this build made."""
        return sum(step.bytes for step in self.steps if not step.hit)

    def of_stage(self, name: str) -> tuple[StepRow, ...]:
        """The stage's steps in the order of the Dockerfile."""
        return tuple(sorted((step for step in self.steps if step.stage == name), key=lambda row: row.number))

    def stage(self, name: str) -> StageRow | None:
        """The stage of that name, if there is one."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """What ``builds show --json`` prints."""
        path = critical_path(self)
        return {
            "id": self.id,
            "dockerfile": self.dockerfile,
            "started": self.started,
            "seconds": self.seconds,
            "status": self.status,
            "error": self.error,
            "image": self.image,
            "tags": list(self.tags),
            "hits": self.hits,
            "seconds_saved": self.saved,
            "bytes": self.bytes,
            "critical_path": [step.name for step in path],
            "critical_seconds": sum(step.seconds for step in path),
            "steps": [_shown(step) for step in self.steps],
        }


def _shown(step: StepRow) -> dict[str, Any]:
    document = step._asdict()
    del document["parts"]
    document["cause"] = None if step.cause is None else step.cause._asdict()
    return document


class Builds:
    """The build records of one store."""

    def __init__(self, store: Store) -> None:
        self._builds = store.records("builds")
        self._places = store.records("places")

    def get(self, identity: str) -> BuildRecord | None:
        """The record with this id, if it is still there."""
        data = self._builds.get(identity)
        return None if data is None else read_build(data)

    def last(self, place: str) -> BuildRecord | None:
        """The last build of a Dockerfile and target."""
        data = self._places.get(place)
        return None if data is None else self.get(data.decode())

    def last_of_file(self, place: str) -> BuildRecord | None:
        """The last build of the Dockerfile of `place`, whatever its target was."""
        file = place.rpartition("\n")[0] + "\n"
        found = (self.last(name) for name in self._places.names() if name.startswith(file))
        return max((one for one in found if one is not None), key=lambda one: one.started, default=None)

    def all(self) -> list[BuildRecord]:
        """Every record, newest first."""
        found = (self.get(name) for name in self._builds.names())
        return sorted((one for one in found if one is not None), key=lambda one: one.started, reverse=True)

    def find(self, text: str) -> BuildRecord:
        """The build `text` means: its id or the start of it, ``last`` or ``last~1``; raises `UsageError`."""
        records = self.all()
        if not records:
            raise UsageError("there are no build records here", cure="Build something first.")
        if text == "last" or text.startswith("last~"):
            back = text.partition("~")[2] or "0"
            if not back.isdigit() or int(back) >= len(records):
                raise UsageError(f"there is no build {text}", cure=f"Records here: {len(records)}.")
            return records[int(back)]
        matching = [record for record in records if record.id.startswith(text)]
        if len(matching) != 1:
            what = "no build" if not matching else "more than one build"
            raise UsageError(
                f"{what} has an id that begins with {text!r}", cure="minibuild builds ls lists them."
            )
        return matching[0]


def read_build(data: bytes) -> BuildRecord | None:
    """The record in `data`; None for what another version wrote."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            return None
        return BuildRecord(
            document["id"],
            document["place"],
            document["dockerfile"],
            document["started"],
            document["seconds"],
            document["status"],
            document["error"],
            document["image"],
            tuple(document["tags"]),
            tuple(_stage(one) for one in document["stages"]),
            tuple(_step(one) for one in document["steps"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _stage(document: dict[str, Any]) -> StageRow:
    return StageRow(
        document["name"],
        document["base"],
        tuple(document["instructions"]),
        tuple(document["waits"]),
        document["target"],
        tuple(document["env"]),
    )


def _step(document: dict[str, Any]) -> StepRow:
    cause = document.pop("cause")
    found = Cause(cause["kind"], cause["reason"], tuple(cause["details"])) if cause else None
    return StepRow(**document)._replace(cause=found, waits=tuple(document["waits"]))


def waited_for(record: BuildRecord) -> dict[tuple[str, int], list[StepRow]]:
    """For each step (stage and number) those it had to wait for: what comes before it, ends of stages."""
    rows = {stage.name: record.of_stage(stage.name) for stage in record.stages}
    found: dict[tuple[str, int], list[StepRow]] = {}
    last: dict[str, list[StepRow]] = {}  # what has to end before a stage has

    for stage in record.stages:
        before = last.get(_base(record, stage.name), [])
        for row in rows[stage.name]:
            ends = [end for name in row.waits for end in last.get(name, ())]
            beside = bool(before) and row.start < max(map(_end, before))
            waited = ends if beside else before + [end for end in ends if end not in before]
            found[row.stage, row.number] = waited
            before = [*before, row] if beside else [row]
        last[stage.name] = before
    return found


def _base(record: BuildRecord, name: str) -> str:
    """The stage that a stage builds on; "" where that is none."""
    stage = record.stage(name)
    return stage.base.removeprefix("stage ") if stage and stage.base.startswith("stage ") else ""


def critical_path(record: BuildRecord) -> list[StepRow]:
    """The chain of steps, each waiting for the one before it, that the build's time went to."""
    waited = waited_for(record)
    step: StepRow | None = max(record.steps, key=_end, default=None)
    path: list[StepRow] = []
    while step is not None:
        path.append(step)
        step = max(waited.get((step.stage, step.number), ()), key=_end, default=None)
    return path[::-1]


def _end(step: StepRow) -> float:
    return step.start + step.seconds


class Compared(NamedTuple):
    """One step in two builds; None where a build lacks it."""

    before: StepRow | None
    after: StepRow | None

    @property
    def change(self) -> str:
        """``same``, ``changed`` (another key), ``added`` or ``removed``."""
        if self.before is None or self.after is None:
            return "added" if self.before is None else "removed"
        return "same" if self.before.key == self.after.key else "changed"


def compare(before: BuildRecord, after: BuildRecord) -> list[Compared]:
    """The steps of two builds side by side, stage by stage."""
    found: list[Compared] = []
    for stage in after.stages:
        new = after.of_stage(stage.name)
        old = before.of_stage(stage.name)
        pairs = aligned([row.instruction for row in old], [row.instruction for row in new])
        found += [
            Compared(old[at] if (at := pairs.get(number)) is not None else None, row)
            for number, row in enumerate(new)
        ]
        found += [Compared(row, None) for number, row in enumerate(old) if number not in pairs.values()]
    names = {stage.name for stage in after.stages}
    found += [Compared(row, None) for row in before.steps if row.stage not in names]
    return found
