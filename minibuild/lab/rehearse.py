"""One commit's build gone through by keys alone: with the product's own steps, and nothing executed.

Planning, selection, content digests and keys are those of a build (`engine.keyedsteps`, `plan.keys`). What
differs is the look-up: results are on a `Shelf`, and a step that misses gets a layer that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Callable

from minibuild.cache.steps import StepRecord
from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.inputs import Inputs
from minibuild.engine.keyedsteps import KeyedSteps
from minibuild.engine.lookup import Lookup, Outcome, Place
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles, Files, TreeFiles
from minibuild.engine.voice import Running
from minibuild.errors import MinibuildError
from minibuild.lab.costs import Cost
from minibuild.lab.memory import Memory, Parts, Slot, StepRow, slot_of
from minibuild.lab.shelf import Held, Room, Shelf
from minibuild.lab.standin import LabLayers, LabStandIns, LabTreeFiles
from minibuild.lab.unexecuted import Unexecuted
from minibuild.lab.view import GitFiles
from minibuild.plan import keys, steps
from minibuild.plan.steps import FromImage, FromStage, Plan, Source, Step, sources_of

_CAUSES = (
    ("source", "files"),
    ("mount", "mount"),
    ("command", "command"),
    ("env ", "variables"),
    ("", "option"),
)
"""How a changed part of a key begins, and the word for that."""


class Rehearsal(KeyedSteps):
    """Goes through one plan at one commit. `now` is the commit's time in seconds."""

    def __init__(
        self,
        session: Session,
        plan: Plan,
        bases: ImageBases,
        inputs: Inputs,
        *,
        files: GitFiles,
        now: float,
        memory: Memory,
    ) -> None:
        layers = LabLayers(session, memory.layers)
        session.layers = layers
        self.stand_ins = LabStandIns(memory.layers, int(now) * 1_000_000_000, files, layers)
        layers.stand_ins = self.stand_ins
        self.unexecuted = Unexecuted(memory, files, self.stand_ins, now)
        self.files = files
        self.memory = memory
        self.now = now
        self.rows: list[StepRow] = []
        self._layers = layers
        self._here: set[str] = set()
        self._done: dict[int, Filesystem] = {}
        self._assumed = False
        self.lost = ""
        super().__init__(session, plan, bases, inputs)

    def _new_lookup(self) -> Lookup:
        return _LabLookup(self)

    def rehearse(self) -> list[StepRow]:
        """The rows of every step, in the plan's order; raises a `MinibuildError` where the build would fail.

        The rows up to there are in `rows`.
        """
        memory = self.memory
        memory.ordinal += 1
        seen: dict[Slot, Parts] = {}
        for stage in self.plan.stages:
            filesystem = self._filesystem(stage.base)
            made_ns = self._made_ns(stage)
            inherits = isinstance(stage.base, FromStage)
            for number, step in enumerate(stage.steps):
                place = Place(stage, number)
                try:
                    outcome, pulled = self._rehearsed(place, step, filesystem, made_ns)
                except MinibuildError as error:
                    raise error.at(step.where) from None
                slot = slot_of(stage.name, step.instruction, seen)
                cause = (
                    "" if outcome.hit else self._cause(slot, outcome, step, first=not number and not inherits)
                )
                seen[slot] = outcome.parts
                self._add(place, step, outcome, cause, pulled)
                filesystem = filesystem.extended(outcome.record.layer)
            self._done[stage.index] = filesystem
        memory.parts = seen
        if memory.shared:
            memory.shelf.keep_only({row.key for row in self.rows})
        else:
            memory.shelf.keep_cap(self.now)
        return self.rows

    def _rehearsed(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> tuple[Outcome, int]:
        running = self.session.step(step.name)  # never entered: nothing is told of it
        self.files.bytes = 0
        self._assumed = False
        outcome = self._keyed(place, step, parent, made_ns, running)
        pulled = 0
        if self.memory.shared and not outcome.hit:
            needed = [parent, *(self._filesystem(source) for source in _read_from(step))]
            pulled = self._pull(needed)
            self._here.add(outcome.record.layer.diff_id)
        return outcome, pulled

    def _finished(self, index: int) -> Filesystem:
        return self._done[index]

    def _pull(self, filesystems: list[Filesystem]) -> int:
        """Bytes of the layers that are not on this machine yet; from now on they are."""
        total = 0
        for filesystem in filesystems:
            for layer in filesystem.layers:
                if layer.diff_id not in self._here:
                    self._here.add(layer.diff_id)
                    known = self.memory.layers.get(layer.diff_id)
                    total += layer.descriptor.size if known is None else known.bytes
        return total

    def _cause(self, slot: Slot, outcome: Outcome, step: Step, *, first: bool) -> str:
        """One word on why a step missed, from what differs to the commit before."""
        if not step.cacheable:
            return "no-cache"
        if self.lost:
            return self.lost
        before = self.memory.parts.get(slot)
        if before is None:
            return "new"
        changed = {name for name in {*before, *outcome.parts} if before.get(name) != outcome.parts.get(name)}
        for start, word in _CAUSES:
            if any(name.startswith(start) for name in changed - {"parent"}):
                return word
        return "base" if first else "follows"

    def _add(self, place: Place, step: Step, outcome: Outcome, cause: str, pulled: int) -> None:
        record = outcome.record
        self.rows.append(
            StepRow(
                stage=place.stage.name,
                number=place.number,
                name=step.name,
                instruction=step.instruction,
                hit=outcome.hit,
                cause=cause,
                key=outcome.key,
                seconds=record.seconds,
                bytes=self.memory.layers[record.layer.diff_id].bytes,
                pulled=pulled,
                assumed=self._assumed,
                origin=self.memory.costs.of(step, None).origin,
            )
        )

    def _open_context(self, name: str) -> ContextFiles:
        return super()._open_context(name) if name else self.files

    def _files(self, source: Source) -> Files:
        files = super()._files(source)
        if isinstance(files, LabTreeFiles) or not isinstance(files, TreeFiles):
            return files
        found = LabTreeFiles(
            files.filesystem,
            self._layers,
            self.session.store,
            place=self._place_name(source),
            output=self.memory.output,
            noticed=self._assume,
        )
        self._trees[files.filesystem.chain] = found
        return found

    def _assume(self) -> None:
        self._assumed = self.memory.assumed = True

    def _place_name(self, source: Source) -> str:
        match source:
            case FromStage(index):
                return f"stage {self.plan.stage(index).name}"
            case FromImage(image):
                return f"image {image.digest}"
            case _:
                return str(source)

    def _copy(
        self,
        step: steps.CopyStep,
        parent: Filesystem,
        made_ns: int,
        running: Running | None,
        place: Place | None = None,
    ) -> Outcome:
        before = self.stand_ins.source
        files = self._files(step.source)
        self.stand_ins.source = files.filesystem if isinstance(files, TreeFiles) else None
        try:
            return super()._copy(step, parent, made_ns, running, place)
        finally:
            self.stand_ins.source = before

    def cost(self, step: Step, layer: Layer) -> Cost:
        known = self.memory.layers[layer.diff_id]
        return self.memory.costs.of(step, known.bytes)


class _LabLookup(Lookup):
    """Looks steps up on the shelf; the clock is that of the commits."""

    writes_first = False

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__(rehearsal.session)
        self.now = rehearsal.now
        self._inner = Shelf(Room())
        self._rehearsal = rehearsal

    def step(
        self,
        step: Step,
        parts: keys.Parts,
        execute: Callable[[], Layer],
        running: Running | None,
        place: Place | None,
    ) -> Outcome:
        rehearsal = self._rehearsal
        inner = place is None and rehearsal.memory.shared
        shelf = self._inner if inner else rehearsal.memory.shelf
        key = keys.key_of(parts)
        held = shelf.find(key, self.now) if step.cacheable else None
        if held is not None and (step.ttl is None or self.now - held.created <= step.ttl):
            return Outcome(StepRecord(held.layer, held.created, held.seconds, step.name), True, key, parts)
        rehearsal.lost = "expired" if held is not None else "evicted" if key in shelf.evicted else ""
        layer = rehearsal.unexecuted.layer(key, step, execute)
        cost = rehearsal.cost(step, layer)
        rehearsal.memory.layers[layer.diff_id].bytes = cost.bytes
        shelf.put(key, Held(layer, cost.bytes, cost.seconds, self.now, self.now))
        return Outcome(StepRecord(layer, self.now, cost.seconds, step.name), False, key, parts)


def _read_from(step: Step) -> list[Source]:
    """The stages and images whose files the step reads."""
    return [source for source in sources_of(step) if isinstance(source, FromStage | FromImage)]
