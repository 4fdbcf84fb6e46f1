"""A range of commits built one after another, in thought: what hits, what it costs, variant by variant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from minibuild_store.store import Store

from minibuild.dockerfile.parse import parse
from minibuild.engine.inputs import Inputs
from minibuild.engine.lowering import lower_options
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.errors import MinibuildError
from minibuild.events import silent
from minibuild.lab.bases import LabBases
from minibuild.lab.costs import Costs, cost_note
from minibuild.lab.history import Commit, History
from minibuild.lab.memory import Memory, StepRow
from minibuild.lab.rehearse import Rehearsal
from minibuild.lab.shelf import Shelf
from minibuild.lab.variants import Variant
from minibuild.lab.view import GitFiles, GitView, Memo, Snapshot
from minibuild.plan.lower import lower
from minibuild.plan.steps import Plan
from minibuild.values import NamedTuple, dataclass, field


class Built(NamedTuple):
    """One commit of one variant. `error` says why the build fails; `steps` then end where it does.

    `most_hits` is how many would hit if every RUN that runs again wrote the same as before.
    """

    steps: tuple[StepRow, ...]
    error: str = ""
    most_hits: int = 0

    @property
    def hits(self) -> int:
        return sum(step.hit for step in self.steps)


class Outcome(NamedTuple):
    """One variant over all commits; `most_bytes` is the most that its cache ever took."""

    variant: Variant
    builds: tuple[Built, ...]
    most_bytes: int = 0
    evictions: int = 0


class Replay(NamedTuple):
    """`seconds` is how long it all took; `notes` is what should be known of how it was done."""

    commits: tuple[Commit, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    executed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySpec:
    """What is replayed. `folder` is the context inside the repository, "" for all of it.

    `request` holds what a build is asked besides files: target, arguments, named contexts, platform.
    `git_folder` says that contexts have a ``.git``, as a clone has.
    """

    commits: Sequence[Commit]
    variants: Sequence[Variant]
    request: BuildRequest
    folder: str = ""
    git_folder: bool = True
    offline: bool = False
    costs: Costs = field(default_factory=Costs)


class Replayer:
    """Replays on one history; what was read and planned serves every later replay. Close it."""

    def __init__(self, history: History, spec: ReplaySpec, store: Store) -> None:
        self.history = history
        self.spec = spec
        self._store = store
        self._stack = ExitStack()
        session = self._stack.enter_context(Session(store, spec.request, silent))
        self.bases = LabBases(session, offline=spec.offline)
        self._plans: dict[tuple[bytes, str], Plan | MinibuildError] = {}
        self._rows: Memo = {}
        self._digests: dict[object, tuple[str, int]] = {}

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def replay(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Replay:
        """All variants over all commits; `progress` hears of commits done and to do."""
        start = time.monotonic()
        total = len(self.spec.commits) * len(self.spec.variants)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        outcomes = tuple(self.outcome(variant, tick) for variant in self.spec.variants)
        return Replay(tuple(self.spec.commits), outcomes, tuple(self.notes()), time.monotonic() - start)

    def outcome(self, variant: Variant, tick: Callable[[], None] = lambda: None) -> Outcome:
        """One variant; gone through twice where the result rests on what RUN steps write."""
        memory = Memory(Shelf(variant.room), self.spec.costs, shared=variant.shared)
        builds = self._builds(variant, memory, tick)
        if memory.assumed:
            other = Memory(Shelf(variant.room), self.spec.costs, "same", shared=variant.shared)
            again = self._builds(variant, other, lambda: None)
            builds = [
                built._replace(most_hits=max(built.hits, most.hits))
                for built, most in zip(builds, again, strict=True)
            ]
        return Outcome(variant, tuple(builds), memory.shelf.most, memory.shelf.evictions)

    def _builds(self, variant: Variant, memory: Memory, tick: Callable[[], None]) -> list[Built]:
        builds, now = [], 0.0
        for commit in self.spec.commits:
            now = max(now, float(commit.time))  # a cache's clock does not run backwards
            builds.append(self._built(variant, commit, now, memory))
            tick()
        return builds

    def snapshot(self, commit: Commit) -> Snapshot:
        return Snapshot(self.history, commit, self.spec.folder, git_folder=self.spec.git_folder)

    def _built(self, variant: Variant, commit: Commit, now: float, memory: Memory) -> Built:
        rehearsal: Rehearsal | None = None
        try:
            snapshot = self.snapshot(commit)
            ignore = variant.ignore_file(snapshot)
            text = variant.dockerfile.at(snapshot)
            if text is None:
                return Built((), f"there is no {variant.dockerfile.path}")
            inputs = Inputs(variant.dockerfile.name, text, None, None, ignore, "")
            plan = self.plan(inputs)
            session = Session(self._store, self.spec.request, silent)
            session.epoch = plan.epoch
            rehearsal = Rehearsal(
                session,
                plan,
                self.bases,
                inputs,
                files=GitFiles(GitView(snapshot, ignore, self._rows), self._digests),
                now=now,
                memory=memory,
            )
            rows = tuple(rehearsal.rehearse())
            return Built(rows, most_hits=sum(row.hit for row in rows))
        except MinibuildError as error:
            rows = tuple(rehearsal.rows) if rehearsal is not None else ()
            return Built(rows, one_line(error), sum(row.hit for row in rows))

    def plan(self, inputs: Inputs) -> Plan:
        """The plan of a Dockerfile, made once; raises a `MinibuildError`."""
        key = (inputs.text, inputs.name)
        known = self._plans.get(key)
        if known is None:
            try:
                options = lower_options(self.spec.request, inputs)
                known = lower(parse(inputs.text, inputs.name), options, self.bases)
            except MinibuildError as error:
                known = error
            self._plans[key] = known
        if isinstance(known, MinibuildError):
            raise known
        return known

    def notes(self) -> list[str]:
        """What the result rests on."""
        return [f"base image {note}" for note in self.bases.notes.values()]


def notes_on(replay: Replay, spec: ReplaySpec) -> list[str]:
    """What the figures rest on, a line each."""
    rows = [step for outcome in replay.outcomes for built in outcome.builds for step in built.steps]
    notes = [cost_note({step.origin for step in rows})] if rows and not replay.executed else []
    if any(step.assumed for step in rows):
        notes.append(
            "some keys are made of what a RUN writes: the rate is for RUN steps that write something new "
            "whenever they run, at most is for those that write the same again"
        )
    if any("ADD http" in step.instruction for step in rows):
        notes.append("what ADD fetches from an address is taken to be the same at every commit")
    if spec.git_folder and not spec.folder:
        notes.append("contexts have a .git folder, which every commit changes (--without-git: none)")
    return notes


def check_built(name: str, builds: Sequence[Built]) -> None:
    """Raises a `MinibuildError` where every build of a variant fails: there is nothing to tell of it."""
    if all(built.error for built in builds):
        raise MinibuildError(
            f"no commit of the range can be built with {name}; the last: {builds[-1].error}",
            cure="Correct the Dockerfile or ignore file, or name another range.",
        )


def one_line(error: MinibuildError) -> str:
    """Where and what, for a table."""
    where = f"{error.where.file}:{error.where.first}: " if error.where is not None else ""
    return where + error.message.splitlines()[0]


StepId = tuple[str, str, int]
"""Stage, instruction, and how many of that very text came before it there."""


def by_step(built: Built) -> dict[StepId, StepRow]:
    """The rows of a build by what they are, whatever their number."""
    found: dict[StepId, StepRow] = {}
    for step in built.steps:
        count = 0
        while (step.stage, step.instruction, count) in found:
            count += 1
        found[step.stage, step.instruction, count] = step
    return found


def step_ids(outcome: Outcome) -> list[StepId]:
    """Every step that ever was: those of the last build in its order, then those of builds before."""
    found: dict[StepId, None] = {}
    for built in reversed(outcome.builds):
        for one in by_step(built):
            found.setdefault(one)
    return list(found)
