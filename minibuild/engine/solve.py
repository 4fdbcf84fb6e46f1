"""Bring the stages of a plan into being: look each step up by its key, execute what is missing.

Stages are gone through in turn while all steps are found. Before the first is executed, each stage that is
left gets a thread of its own, and waits for the stages it builds on or copies from. Steps of one stage run
in order, since each needs to know what the one before it left; those that need not (COPY --link) run beside
the others, and COPYs that follow one another are written side by side where each can tell what it will find.
The first failure stops the others, unless the build is to keep going.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
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
from minibuild.engine.voice import Running
from minibuild.errors import Cancelled, MinibuildError
from minibuild.plan import steps
from minibuild.plan.steps import FromImage, Plan, StagePlan, Step
from minibuild.values import dataclass

if TYPE_CHECKING:
    from minibuild.engine.ahead import Begun, Turn
    from minibuild.engine.foresight import Noted


_A_WHILE = 0.1  # seconds: until then the processors are needed by who starts the commands


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
        self._early: dict[int, dict[int, Begun[Outcome | None]]] = {}  # by the numbers of stage and step
        self._fresh = session.cache.fresh
        self._after: Mapping[int, int] | None = None
        self._paused = False
        self._runs_left = sum(
            isinstance(step, steps.RunStep) for stage in plan.stages for step in stage.steps
        )
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
        try:
            if self.session.shared is not None:  # to look up is to ask a server
                self._spread()
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
        if not waiting:
            return
        from minibuild.threads import start

        try:
            for stage in waiting:
                thread = threading.Thread(target=stopping.carried(partial(self._guarded, stage)))
                start(thread)
                self._threads[stage.index] = thread
        except BaseException:  # nobody may wait for those that will never begin
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
            self._early[stage.index] = begun
            self._begin(stage, begun)
            self._results[stage.index] = self._solve(stage, begun)
        except BaseException as error:
            self._failed(error)
        finally:
            while begun:
                begun.popitem()[1].end()
            self._done[stage.index].set()

    def _failed(self, error: BaseException) -> None:
        with self._mutex:
            self._errors.append(error)
        if not (self.session.request.keep_going and isinstance(error, MinibuildError)):
            self.session.stop.set()

    def _begin(self, stage: StagePlan, begun: dict[int, Begun[Outcome | None]]) -> None:
        """Begin what need not wait for its turn, and put it to `begun` by the numbers of the steps."""
        if not any(_may_begin(step) for step in stage.steps):
            return
        self._spread()
        from minibuild.engine import ahead

        if not self.session.request.jobs:  # a fetch is part of a step, and would be one too many
            self._fetch(ahead.remote(stage))
        made_ns = self._made_ns(stage)
        for number in ahead.independent(stage):
            begun[number] = ahead.Begun(partial(self._linked, Place(stage, number), made_ns))

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
            if not self._done[index].wait(_A_WHILE):
                self._use_pause()
                self._done[index].wait()
        result = self._results.get(index)
        if result is None:
            raise Cancelled
        return result.filesystem

    def _use_pause(self) -> None:
        """Do what comes after the commands that run, as far as it can be done before they end."""
        with self._mutex:
            used, self._paused = self._paused, True
        if used:
            return
        if any(isinstance(step, steps.CopyStep) for stage in self.plan.stages for step in stage.steps):
            import zstandard  # noqa: F401

            from minibuild.engine import copylayer, treecontents  # noqa: F401
            from minibuild.layers import lazytree, tree, writer  # noqa: F401
        if self.session.request.cache_to or any(one.push for one in self.session.request.outputs):
            import urllib3  # noqa: F401

            from minibuild.registry import client, sockets  # noqa: F401
        self.session.in_pause()

    def _run_over(self) -> None:
        """Let the sandbox go once no command is left: what follows need not wait for its end."""
        with self._mutex:
            self._runs_left -= 1
            last = not self._runs_left
        if last and not self.session.request.cache_to:  # which may read cache mounts
            self.session.sandboxes.rest()

    def _solve(self, stage: StagePlan, begun: Mapping[int, Begun[Outcome | None]]) -> StageResult:
        filesystem = self._start(stage)
        made_ns = self._made_ns(stage)
        created: list[float] = []
        for number, step in enumerate(stage.steps):
            self.session.check()
            if number in begun:
                outcome = begun[number].over(filesystem)
            else:
                outcome = self._placed(Place(stage, number), step, filesystem, made_ns)
            if outcome is None:
                raise Cancelled
            if isinstance(step, steps.RunStep):
                self._run_over()
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
            return self._looked_at(place, step, partial(self._in_turn, place, step, parent, made_ns))

    def _in_turn(
        self, place: Place, step: Step, parent: Filesystem, made_ns: int, running: Running
    ) -> Outcome:
        if isinstance(step, steps.CopyStep) and not step.link:
            running.lasting = partial(self._follow, place, parent, running)
        return self._keyed(place, step, parent, made_ns, running)

    def _follow(self, place: Place, parent: Filesystem, running: Running) -> None:
        """Begin the COPYs right below one that takes a while; `parent` is what is below that."""
        if not self._lookup.writes_first or self.session.request.jobs == 1:
            return
        from minibuild.engine import ahead, foresight

        begun = self._early[place.stage.index]
        missed = self._fresh or bool(running.reason)  # of files that were never hashed it is not known yet
        for number in foresight.followers(place):
            if number not in begun:
                copies = place.stage.steps[place.number : number + 1]
                early = partial(self._before, Place(place.stage, number), copies, parent, missed)
                begun[number] = ahead.Early(early)

    def _before(
        self, place: Place, copies: Sequence[Step], parent: Filesystem, missed: bool, turn: Turn
    ) -> Outcome:
        """The last of `copies`, the first of which `missed` and is being written over `parent`."""
        from minibuild.engine import foresight
        from minibuild.engine.gathered import TreeLower

        made_ns = self._made_ns(place.stage)
        for step in copies:
            for source in stage_sources(step):
                self._finished(source.index)
        below = TreeLower(self.session, parent, runs_later=self._runs_later(place))
        known = [(step, self._files_of(step)) for step in copies if isinstance(step, steps.CopyStep)]
        lower = foresight.likely(self.session, known, below, made_ns)
        if lower is None:
            return self._placed(place, copies[-1], turn.wait(), made_ns)
        with ExitStack() as slot:
            slot.enter_context(self._slot(place))
            self.session.check()
            try:
                early = partial(self._written, slot, place, lower, missed, turn)
                return self._looked_at(place, copies[-1], early)
            except MinibuildError as error:
                raise error.at(copies[-1].where) from None

    def _written(
        self, slot: ExitStack, place: Place, lower: Noted, missed: bool, turn: Turn, running: Running
    ) -> Outcome:
        """A COPY that is written over a guess, and looked up at its turn."""
        from minibuild.engine import foresight
        from minibuild.engine.gathered import TreeLower

        step, made_ns = place.stage.steps[place.number], self._made_ns(place.stage)
        assert isinstance(step, steps.CopyStep)
        files = self._files_of(step)
        noted = self._copied_from(place)
        gathered = foresight.write(self.session, step, files, lower, made_ns, missed=missed, noted=noted)
        slot.close()  # who waits takes none
        parent = running.waits(turn.wait)
        slot.enter_context(self._slot(place))
        self.session.check()
        found = TreeLower(self.session, parent, runs_later=self._runs_later(place))
        if gathered is None or not lower.agrees(found):
            return self._in_turn(place, step, parent, made_ns, running)
        return self._gathered(gathered, parent, running, place)

    def _slots(self, jobs: int) -> Callable[[Place], AbstractContextManager[None]]:
        """What a step has to hold while it is at work."""
        from minibuild_store.turns import Slots

        slots = Slots(jobs)
        return lambda place: slots.taken(self._left(place))

    def _left(self, place: Place) -> int:
        """How many steps come one after the other from here."""
        if self._after is None:
            from minibuild.engine.criticalpath import steps_after

            self._after = steps_after(self.plan)
        return len(place.stage.steps) - place.number + self._after[place.stage.index]

    def _looked_at(self, place: Place, step: Step, made: Callable[[Running], Outcome]) -> Outcome:
        start = self.session.journal.now()
        try:
            with self.session.step(step.name) as running:
                running.left = partial(self._left, place)
                outcome = made(running)
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
