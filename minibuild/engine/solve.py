"""Bring the stages of a plan into being: look each step up by its key, execute what is missing.

Stages are gone through in turn while all steps are found. Before the first is executed, each stage that is
left gets a thread of its own, and waits for the stages it builds on or copies from. Steps of one stage run
in order, since each needs to know what the one before it left; those that need not (COPY --link) run beside
the others. The first failure stops the others, unless the build is to keep going.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from minibuild_store import stopping

from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.inputs import Inputs
from minibuild.engine.keyedsteps import KeyedSteps
from minibuild.engine.lookup import Outcome, Place
from minibuild.engine.notes import Notes
from minibuild.engine.session import Session
from minibuild.engine.stagerows import stage_sources
from minibuild.errors import Cancelled, MinibuildError
from minibuild.plan import steps
from minibuild.plan.steps import FromImage, Plan, StagePlan, Step
from minibuild.values import dataclass

if TYPE_CHECKING:
    from minibuild.engine.ahead import Begun


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage; `created` are the times its steps' layers were made, in order (seconds)."""

    filesystem: Filesystem
    created: tuple[float, ...]


class Solver(KeyedSteps):
    """Solves one plan, once."""

    def __init__(self, session: Session, plan: Plan, bases: ImageBases, inputs: Inputs) -> None:
        super().__init__(session, plan, bases, inputs)
        self._notes = Notes(session, plan)
        self._results: dict[int, StageResult] = {}
        self._done = {stage.index: threading.Event() for stage in plan.stages}
        self._errors: list[BaseException] = []
        self._waiting: list[StagePlan] = []  # stages that nobody has begun
        self._threads: dict[int, threading.Thread] = {}  # by stage
        session.at_work = self._spread
        self._slot = self._slots(session.request.jobs) if session.request.jobs else _no_slot

    def run(self) -> dict[int, StageResult]:
        """Solve all stages; raises the first error once every thread has stopped."""
        try:
            self._run_all(self.plan.stages)
        finally:
            for begun in self.session.fetches.values():
                begun.wait()
        for context in self._contexts.values():
            context.save()
        if self._errors:
            raise self._failure()
        self.session.reports += self._notes.reports()
        return self._results

    def _run_all(self, stages: Sequence[StagePlan]) -> None:
        self._waiting = list(stages)
        if self.session.shared is not None:  # to look up is to ask a server
            self._spread()
        try:
            while self._waiting:
                self._guarded(self._waiting.pop(0))
            self._wait_for_threads()
        except BaseException:
            self.session.stop.set()
            self._wait_for_threads()
            raise
        for thread in self._threads.values():
            thread.join()

    def _spread(self) -> None:
        """Give each stage that nobody has begun a thread of its own: the caller's is about to be busy."""
        waiting, self._waiting = self._waiting, []
        try:
            for stage in waiting:
                thread = threading.Thread(target=stopping.carried(partial(self._guarded, stage)))
                thread.start()
                self._threads[stage.index] = thread
        except BaseException:  # interrupted: nobody may wait for those that will never begin
            for stage in waiting:
                if stage.index not in self._threads:
                    self._done[stage.index].set()
            raise

    def _wait_for_threads(self) -> None:
        """Not by joining them: Python 3.11 takes a thread for ended when a join of it is interrupted."""
        for index in self._threads:
            self._done[index].wait()

    def _failure(self) -> BaseException:
        """The first error, with the others where the build kept going."""
        real = list(dict.fromkeys(error for error in self._errors if not isinstance(error, Cancelled)))
        first = real[0] if real else self._errors[0]
        if self.session.request.keep_going and isinstance(first, MinibuildError):
            first.others = tuple(error for error in real[1:] if isinstance(error, MinibuildError))
        return first

    def _guarded(self, stage: StagePlan) -> None:
        begun: dict[int, Begun[Outcome | None]] = {}
        try:
            begun = self._begun(stage)
            self._results[stage.index] = self._solve(stage, begun)
        except BaseException as error:
            self._failed(error)
        finally:
            for one in begun.values():
                one.wait()
            self._done[stage.index].set()

    def _failed(self, error: BaseException) -> None:
        with self._mutex:
            self._errors.append(error)
        if not (self.session.request.keep_going and isinstance(error, MinibuildError)):
            self.session.stop.set()

    def _begun(self, stage: StagePlan) -> dict[int, Begun[Outcome | None]]:
        """Begin what need not wait for its turn: the steps by their number."""
        if not any(_may_begin(step) for step in stage.steps):
            return {}
        self._spread()
        from minibuild.engine import ahead

        if not self.session.request.jobs:  # a fetch is part of a step, and would be one too many
            self._fetch(ahead.remote(stage))
        made_ns = self._made_ns(stage)
        return {
            number: ahead.Begun(partial(self._linked, Place(stage, number), made_ns))
            for number in ahead.independent(stage)
        }

    def _fetch(self, items: Sequence[steps.UrlItem | steps.GitItem]) -> None:
        """Begin to fetch what is not being fetched yet."""
        for item in items:
            from minibuild.engine.ahead import Begun
            from minibuild.engine.fetch import fetch_now

            with self._mutex:
                if item not in self.session.fetches:
                    self.session.fetches[item] = Begun(partial(fetch_now, self.session, item))

    def _linked(self, place: Place, made_ns: int) -> Outcome | None:
        """A step that needs nothing of its stage; None where it failed, which stops the stage at its turn."""
        step = place.stage.steps[place.number]
        try:
            return self._placed(place, step, Filesystem(), made_ns)
        except BaseException as error:
            self._failed(error)
            return None

    def _placed(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        try:
            return self._step(place, step, parent, made_ns)
        except MinibuildError as error:
            raise error.at(step.where) from None

    def _finished(self, index: int) -> Filesystem:
        """Waits until the stage is."""
        if not self._done[index].is_set():
            self._spread()
            self._done[index].wait()
        result = self._results.get(index)
        if result is None:
            raise Cancelled
        return result.filesystem

    def _solve(self, stage: StagePlan, begun: Mapping[int, Begun[Outcome | None]]) -> StageResult:
        filesystem = self._start(stage)
        made_ns = self._made_ns(stage)
        created: list[float] = []
        for number, step in enumerate(stage.steps):
            self.session.check()
            if number in begun:
                outcome = begun[number].result()
            else:
                outcome = self._placed(Place(stage, number), step, filesystem, made_ns)
            if outcome is None:
                raise Cancelled
            filesystem = filesystem.extended(outcome.record.layer)
            created.append(outcome.record.created)
        return StageResult(filesystem, tuple(created))

    def _start(self, stage: StagePlan) -> Filesystem:
        """The filesystem that FROM gives. An image's layers stay where they are until a step needs them."""
        if not stage.from_step:
            return self._filesystem(stage.base)
        with self.session.step(stage.from_step) as running:
            running.cached = isinstance(stage.base, FromImage)
            return self._filesystem(stage.base)

    def _step(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        """One step, from the cache or executed."""
        for source in stage_sources(step):  # waited for before the step's clock starts
            self._finished(source.index)
        with self._slot(place):
            self.session.check()
            return self._looked_at(place, step, parent, made_ns)

    def _slots(self, jobs: int) -> Callable[[Place], AbstractContextManager[None]]:
        """What a step has to hold while it is at work."""
        from minibuild.engine.slots import Slots, steps_after

        slots, after = Slots(jobs), steps_after(self.plan)
        return lambda place: slots.taken(len(place.stage.steps) - place.number + after[place.stage.index])

    def _looked_at(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        start = self.session.journal.now()
        try:
            with self.session.step(step.name) as running:
                outcome = self._keyed(place, step, parent, made_ns, running)
                record, hit = outcome.record, outcome.hit
                running.cached = hit
                running.bytes = 0 if hit else record.layer.descriptor.size
                seconds = running.seconds
        except MinibuildError as error:
            if not isinstance(error, Cancelled):
                self._notes.failure(place, start, error.message)
            raise
        self._notes.outcome(place, outcome, start, seconds)
        return outcome


def _no_slot(_: Place) -> AbstractContextManager[None]:
    return nullcontext()


def _may_begin(step: Step) -> bool:
    """Whether some of the step can be done before its turn."""
    return isinstance(step, steps.CopyStep) and (
        step.link or any(isinstance(item, steps.UrlItem | steps.GitItem) for item in step.items)
    )
