"""A build without its doing: each step looked up by its key, nothing executed and nothing pulled.

Behind a step that misses keys are not known: they are made of results that are yet to come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from minibuild_store.store import Store

from minibuild.cache.journal import Cause
from minibuild.credentials import redacted
from minibuild.dockerfile.parse import parse
from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.inputs import Inputs, read_inputs
from minibuild.engine.keyedsteps import KeyedSteps
from minibuild.engine.lookup import Lookup, Outcome, Place
from minibuild.engine.lowering import lower_options
from minibuild.engine.notes import Notes
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.engine.stagerows import base_text, stage_rows, stage_sources
from minibuild.engine.voice import Running
from minibuild.errors import MinibuildError
from minibuild.events import EventSink, silent
from minibuild.plan import keys, steps
from minibuild.plan.lower import lower
from minibuild.plan.steps import Plan, StagePlan, Step
from minibuild.values import NamedTuple


class PlannedStep(NamedTuple):
    """What would become of a step: `state` is hit, miss or unknown; `key` is "" where it is not known.

    `seconds` is what the step took when it was executed, `cause` says why it would be again.
    """

    name: str
    state: str
    instruction: str
    key: str = ""
    cause: Cause | None = None
    seconds: float = 0.0


class PlannedStage(NamedTuple):
    name: str
    base: str
    steps: tuple[PlannedStep, ...]


class _Missed(Exception):
    """A step that would be executed; `key` is "" where even that is not known before."""

    def __init__(self, key: str, reason: str, cause: Cause | None = None) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason
        self.cause = cause or Cause("waits", reason)


def dry_run(
    request: BuildRequest,
    *,
    store: Store,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> list[PlannedStage]:
    """The stages that `request` needs, in order, and what is known of their steps.

    The documents of bases and shared caches, and a context that is elsewhere, are fetched. Raises a
    `MinibuildError`.
    """
    with Session(store, request, sink, cancel) as session:
        inputs = read_inputs(session)
        if request.cache_from:
            from minibuild.engine.sharing import use_shared

            use_shared(session)
        try:
            bases = ImageBases(session)
            plan = lower(parse(inputs.text, inputs.name), lower_options(request, inputs), bases)
            session.epoch = plan.epoch
            session.journal.begin(inputs.place, "", stage_rows(plan))
            return _DryRun(session, plan, bases, inputs).planned()
        except MinibuildError as error:
            if error.where is not None and error.where.file == inputs.name:
                error.source = inputs.text.decode("utf-8-sig", "replace")
            raise


class _DryLookup(Lookup):
    writes_first = False

    def step(
        self,
        step: Step,
        parts: keys.Parts,
        execute: Callable[[], Layer],
        running: Running | None,
        place: Place | None,
    ) -> Outcome:
        key = keys.key_of(parts)
        found = self._find(key, step, parts)
        if found is not None:
            return found
        if place is None:
            raise _Missed("", "files of the context that it uses are not loaded yet")
        cause = self._explain(place, step, key, parts)
        raise _Missed(key, cause.reason, cause)


def _not_here() -> None:
    raise _Missed("", "what it copies is in an image that is not here yet")


class _DryRun(KeyedSteps):
    """Goes through the stages one by one; `_found` holds those whose every step hits."""

    def __init__(self, session: Session, plan: Plan, bases: ImageBases, inputs: Inputs) -> None:
        super().__init__(session, plan, bases, inputs)
        session.layers.fetching = _not_here
        self._notes = Notes(session, plan)
        self._found: dict[int, Filesystem] = {}

    def planned(self) -> list[PlannedStage]:
        found = [self._planned(stage) for stage in self.plan.stages]
        for context in self._contexts.values():
            context.save()
        return found

    def _new_lookup(self) -> Lookup:
        return _DryLookup(self.session)

    def _planned(self, stage: StagePlan) -> PlannedStage:
        filesystem, reason = self._origin(stage)
        made_ns = self._made_ns(stage)
        rows: list[PlannedStep] = []
        for number, step in enumerate(stage.steps):
            self.session.check()
            free = isinstance(step, steps.CopyStep) and step.link
            try:
                self._check_sources(step)
                if filesystem is None and not free:
                    raise _Missed("", reason)
                outcome = self._looked_up(Place(stage, number), step, filesystem or Filesystem(), made_ns)
            except _Missed as missed:
                state = "miss" if missed.key or missed.reason.startswith("files of") else "unknown"
                rows.append(PlannedStep(step.name, state, step.instruction, missed.key, missed.cause))
                filesystem, reason = None, "a step before it comes first"
                continue
            except MinibuildError as error:
                raise error.at(step.where) from None
            record = outcome.record
            row = PlannedStep(step.name, "hit", step.instruction, outcome.key, seconds=record.seconds)
            rows.append(row)
            filesystem = None if filesystem is None else filesystem.extended(record.layer)
            self._notes.outcome(Place(stage, number), outcome, 0.0, 0.0)
        if filesystem is not None:
            self._found[stage.index] = filesystem
        return PlannedStage(stage.name, base_text(self.plan, stage), tuple(rows))

    def _origin(self, stage: StagePlan) -> tuple[Filesystem | None, str]:
        """What the stage starts from; None, and why, where that is not known."""
        base = stage.base
        if isinstance(base, steps.FromStage) and base.index not in self._found:
            return None, f"stage {self.plan.stage(base.index).name} comes first"
        try:
            return self._filesystem(base), ""
        except _Missed as missed:
            return None, missed.reason

    def _check_sources(self, step: Step) -> None:
        for source in stage_sources(step):
            if source.index not in self._found:
                raise _Missed("", f"stage {self.plan.stage(source.index).name} comes first")
        for item in step.items if isinstance(step, steps.CopyStep) else ():
            if isinstance(item, steps.UrlItem | steps.GitItem):
                address = item.url if isinstance(item, steps.UrlItem) else item.remote
                raise _Missed("", f"{redacted(address)} has to be asked first")

    def _looked_up(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        running = self.session.step(step.name)  # never entered, so nothing is told of it
        return self._keyed(place, step, parent, made_ns, running)

    def _finished(self, index: int) -> Filesystem:
        return self._found[index]


def known_plan(stages: list[PlannedStage]) -> tuple[int, int, int]:
    """How many steps hit, miss, and are not known."""
    states = [step.state for stage in stages for step in stage.steps]
    return states.count("hit"), states.count("miss"), states.count("unknown")
