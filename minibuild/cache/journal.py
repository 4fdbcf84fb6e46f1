"""What a build leaves behind: a record of its steps, their keys and causes, and where its time went.

A record a build under its id, in *builds*; *places* name the last build of a Dockerfile and target that
succeeded, which is what the next one is explained against. Written once, at the end, also after a failure.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence

from minibuild_store.store import Store

from minibuild.values import NamedTuple

FORMAT = 1
KEPT = 400
"""How many records are kept; the oldest go first."""


class Cause(NamedTuple):
    """Why a step was executed: a word for programs, a line for people, and the particulars, a line each."""

    kind: str
    reason: str
    details: tuple[str, ...] = ()


class StepRow(NamedTuple):
    """One step of a build. Times are seconds; `start` counts from the start of the build.

    `saved` is what a hit spared, `bytes` the size of the layer's blob, `origin` the shared cache that had it.
    `waits` are the stages it reads files from, `error` what a step that failed said (it has no key and no
    layer). `parts` are not written down.
    """

    stage: str
    number: int
    name: str
    instruction: str
    key: str
    hit: bool
    start: float
    seconds: float
    saved: float
    bytes: int
    diff_id: str
    cause: Cause | None = None
    origin: str = ""
    parts: Mapping[str, str] | None = None
    waits: tuple[str, ...] = ()
    error: str = ""


class StageRow(NamedTuple):
    """One stage: its base (``image NAME@DIGEST``, ``stage NAME``, ...) and the stages it waits for.

    `env` are the names of the variables that ENV, here or in the base, has set.
    """

    name: str
    base: str
    instructions: tuple[str, ...]
    waits: tuple[str, ...] = ()
    target: bool = False
    env: tuple[str, ...] = ()


class Journal:
    """Takes notes during one build; its methods are called from several threads."""

    def __init__(self, store: Store) -> None:
        self.id = os.urandom(5).hex()
        self.place = ""
        self.shown = ""
        self.steps: list[StepRow] = []
        self.stages: list[StageRow] = []
        self._store = store
        self._started = time.time()
        self._clock = time.monotonic()
        self._mutex = threading.Lock()

    def begin(self, place: str, shown: str, stages: Sequence[StageRow]) -> None:
        """Name the Dockerfile and target (`place` to find them again, `shown` for people) and the stages.

        A build that begins again forgets what it noted before.
        """
        with self._mutex:
            self.place, self.shown, self.stages, self.steps = place, shown, list(stages), []

    def now(self) -> float:
        """Seconds since the build began."""
        return time.monotonic() - self._clock

    def add(self, row: StepRow) -> None:
        with self._mutex:
            self.steps.append(row)

    def of_stage(self, name: str) -> list[StepRow]:
        with self._mutex:
            return [row for row in self.steps if row.stage == name]

    def finish(self, status: str, *, error: str = "", image: str = "", tags: Sequence[str] = ()) -> None:
        """Write the record. Does nothing for a build that failed before it had stages."""
        if not self.place:
            return
        document = {
            "format": FORMAT,
            "id": self.id,
            "place": self.place,
            "dockerfile": self.shown,
            "started": self._started,
            "seconds": self.now(),
            "status": status,
            "error": error,
            "image": image,
            "tags": list(tags),
            "stages": [stage._asdict() for stage in self.stages],
            "steps": [_step(row) for row in self.steps],
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        builds = self._store.records("builds")
        builds.put(self.id, data)
        if status == "done":  # a build that failed has not seen all steps
            self._store.records("places").put(self.place, self.id.encode())
        if self.id < "08":  # one in thirty-two builds looks whether there are too many
            from minibuild.cache.retention import forget_oldest

            forget_oldest(self._store, KEPT)


def _step(row: StepRow) -> dict[str, object]:
    document = row._asdict()
    del document["parts"]
    document["cause"] = row.cause._asdict() if row.cause is not None else None
    return document
