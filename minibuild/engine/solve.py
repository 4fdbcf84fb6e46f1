"""Bring the stages of a plan into being: look each step up by its key, execute what is missing.

Every stage runs on its own thread and waits for the stages it builds on or copies from. Steps of one
stage run in order, since each needs to know what the one before it left; those that need not (COPY --link)
run beside the others. The first failure stops the others, unless the build is to keep going.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from minibuild.engine import copy, loading
from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Filesystem, Layer, image_filesystem
from minibuild.engine.inputs import Inputs
from minibuild.engine.lookup import Lookup, Outcome, Place
from minibuild.engine.notes import Notes
from minibuild.engine.session import Running, Session
from minibuild.engine.sources import ContextFiles, ContextTree, Files, NoFiles, TreeFiles
from minibuild.engine.stagerows import stage_sources
from minibuild.errors import Cancelled, MinibuildError, UsageError
from minibuild.exporters.assemble import whole_seconds
from minibuild.plan import keys, steps
from minibuild.plan.steps import FromContext, FromImage, FromScratch, FromStage, Plan, Source, StagePlan, Step
from minibuild.values import dataclass

if TYPE_CHECKING:
    from minibuild.engine.ahead import Begun
    from minibuild.engine.devices import Devices

# What we make ourselves must not carry the clock. A base's own time is as good as any; without one, a
# time that zip archives can hold in every time zone (they begin in 1980).
_NO_TIME_NS = 315_619_200 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage; `created` are the times its steps' layers were made, in order (seconds)."""

    filesystem: Filesystem
    created: tuple[float, ...]


class Solver:
    """Solves one plan, once."""

    def __init__(self, session: Session, plan: Plan, bases: ImageBases, inputs: Inputs) -> None:
        self.session = session
        self.plan = plan
        self._bases = bases
        self._inputs = inputs
        self._lookup = self._new_lookup()
        self._notes = Notes(session, plan)
        self._platform = str(plan.target.config.platform)
        self._results: dict[int, StageResult] = {}
        self._done = {stage.index: threading.Event() for stage in plan.stages}
        self._errors: list[BaseException] = []
        self._contexts: dict[tuple[str, int], ContextFiles] = {}
        self._trees: dict[str, TreeFiles] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._devices: Devices | None = None
        self._mutex = threading.Lock()
        jobs = session.request.jobs
        self._slots = threading.BoundedSemaphore(jobs) if jobs else nullcontext()

    def _new_lookup(self) -> Lookup:
        return Lookup(self.session)

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
        if len(stages) == 1:
            self._guarded(stages[0])
            return
        threads = [threading.Thread(target=self._guarded, args=(stage,)) for stage in stages]
        for thread in threads:
            thread.start()
        self._wait_for_all()
        for thread in threads:
            thread.join()

    def _failure(self) -> BaseException:
        """The first error, with the others where the build kept going."""
        real = list(dict.fromkeys(error for error in self._errors if not isinstance(error, Cancelled)))
        first = real[0] if real else self._errors[0]
        if self.session.request.keep_going and isinstance(first, MinibuildError):
            first.others = tuple(error for error in real[1:] if isinstance(error, MinibuildError))
        return first

    def _wait_for_all(self) -> None:
        """Wait for every stage; where this thread is interrupted, stop them first.

        Not by joining: Python 3.11 takes a thread for ended when a join of it is interrupted.
        """
        try:
            for done in self._done.values():
                done.wait()
        except BaseException:
            self.session.stop.set()
            for done in self._done.values():
                done.wait()
            raise

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

    def _wait(self, index: int) -> StageResult:
        self._done[index].wait()
        result = self._results.get(index)
        if result is None:
            raise Cancelled
        return result

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

    def _made_ns(self, stage: StagePlan) -> int:
        if self.plan.epoch is not None:
            return self.plan.epoch * 1_000_000_000
        base = stage.base
        while isinstance(base, FromStage):
            base = self.plan.stage(base.index).base
        if isinstance(base, FromImage):
            return _created_ns(base.image.config.created)
        return _NO_TIME_NS

    def _filesystem(self, source: Source) -> Filesystem:
        match source:
            case FromStage(index):
                return self._wait(index).filesystem
            case FromImage(image):
                self.session.layers.know(image)
                return image_filesystem(image)
            case FromContext(name):
                return self._context_layer(name)
            case FromScratch():
                return Filesystem()

    def _context(self, name: str) -> ContextFiles:
        # Matching ignore patterns builds on the path asked before, so each stage has a matcher of its own.
        key = (name, threading.get_ident())
        with self._mutex:
            known = self._contexts.get(key)
            if known is None:
                known = self._open_context(name)
                self._contexts[key] = known
            return known

    def _open_context(self, name: str) -> ContextFiles:
        if name:
            return ContextFiles(*self._bases.context_folder(name), self.session.store)
        root, ignore = self._inputs.folder, self._inputs.ignore
        if root is None:
            raise UsageError(
                "this build has no context to copy from", cure="Give a folder as the last argument."
            )
        return ContextFiles(root, ignore and ignore.copy(), self.session.store)

    def _files(self, source: Source) -> Files:
        match source:
            case FromContext(name):
                tree = self._bases.context_tree(name) if name else self._inputs.tree
                if tree is None:
                    return self._context(name)
            case FromScratch():
                return NoFiles()
            case _:
                tree = None
        filesystem = self._filesystem(source) if tree is None else tree
        with self._mutex:
            known = self._trees.get(filesystem.chain)
            if known is None:
                kind = TreeFiles if tree is None else ContextTree
                known = kind(filesystem, self.session.layers, self.session.store)
                self._trees[filesystem.chain] = known
            return known

    def _context_layer(self, name: str) -> Filesystem:
        """A build context as a filesystem of one layer, for ``FROM context`` and for bind mounts."""
        step = loading.whole_context(name, self.plan.target.where)
        with self._mutex_for(f"context {name}"):
            outcome = self._copy(step, Filesystem(), _NO_TIME_NS, None)
        return Filesystem().extended(outcome.record.layer)

    def _mutex_for(self, name: str) -> threading.Lock:
        with self._mutex:
            return self._locks.setdefault(name, threading.Lock())

    def _step(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        """One step, from the cache or executed."""
        for source in stage_sources(step):  # waited for before the step's clock starts
            self._wait(source.index)
        with self._slots:
            self.session.check()
            return self._looked_at(place, step, parent, made_ns)

    def _looked_at(self, place: Place, step: Step, parent: Filesystem, made_ns: int) -> Outcome:
        start = self.session.journal.now()
        try:
            with self.session.step(step.name) as running:
                match step:
                    case steps.RunStep():
                        outcome = self._run(step, parent, running, place)
                    case steps.CopyStep():
                        outcome = self._copy(step, parent, made_ns, running, place)
                    case steps.WorkdirStep():
                        outcome = self._workdir(step, parent, made_ns, running, place)
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

    def _run(self, step: steps.RunStep, parent: Filesystem, running: Running, place: Place) -> Outcome:
        mounted: dict[int, Filesystem] = {}
        contents: dict[int, str] = {}
        for number, mount in enumerate(step.mounts):
            if isinstance(mount, steps.BindMount):
                mounted[number], contents[number] = self._mounted(mount)
            elif isinstance(mount, steps.CacheMount) and not isinstance(mount.source, FromScratch):
                mounted[number] = self._seed(mount)
                contents[number] = mounted[number].chain
        granted: tuple[str, ...] = ()
        if step.devices:
            devices = self._offered()
            granted = devices.granted(step.devices)
        parts = keys.run_parts(
            step,
            parent=parent.chain,
            platform=self._platform,
            epoch=self._epoch,
            mounts=contents,
            devices=granted,
        )
        for number, mount in enumerate(step.mounts):
            if isinstance(mount, steps.CacheMount):
                self.session.cache_mounts.append((mount, contents.get(number, "")))
        if any(secret.keyed for secret in self.session.request.secrets):
            from minibuild.engine.secrets import key_parts

            parts |= key_parts(self.session.store, self.session.request.secrets, step)
        for host in self.session.request.hosts:
            parts[f"host {host[1]}"] = host[0]
        for volume in self.session.request.volumes:
            parts[f"volume {volume.target}"] = f"{volume.source}{' ro' if volume.readonly else ''}"

        def execute() -> Layer:
            from minibuild.engine import run

            given = devices.given(granted) if granted else None
            return run.execute(self.session, running, step, parent, mounted, given)

        return self._lookup.step(step, parts, execute, running, place)

    def _offered(self) -> Devices:
        """The devices of this machine, read once."""
        from minibuild.engine.devices import Devices

        with self._mutex:
            if self._devices is None:
                self._devices = Devices(self.session)
            return self._devices

    def _mounted(self, mount: steps.BindMount) -> tuple[Filesystem, str]:
        """What a bind mount shows, and its content: only a change of that runs the step again."""
        if isinstance(mount.source, FromContext):
            return self._context_mount(mount)
        filesystem = self._filesystem(mount.source)
        return filesystem, self._mount_content(mount, filesystem)

    def _context_mount(self, mount: steps.BindMount) -> tuple[Filesystem, str]:
        """The part of a context that a bind mount shows, at its own path, as a layer; and its content."""
        step = loading.mounted_part(mount, self.plan.target.where)
        with self._mutex_for(f"mount {step.source} {step.dest}"):
            outcome = self._copy(step, Filesystem(), _NO_TIME_NS, None)
        # not the layer: that has the times of the files, which are others in each check-out
        return Filesystem().extended(outcome.record.layer), outcome.parts["source 0"]

    def _seed(self, mount: steps.CacheMount) -> Filesystem:
        """What a cache mount begins with, as a layer."""
        step = loading.cache_seed(mount, self.plan.target.where)
        outcome = self._copy(step, Filesystem(), _NO_TIME_NS, None)
        return Filesystem().extended(outcome.record.layer)

    def _mount_content(self, mount: steps.BindMount, filesystem: Filesystem) -> str:
        if isinstance(mount.source, FromScratch):
            return ""
        files = self._files(mount.source)
        assert isinstance(files, TreeFiles)
        selection = f"mount {mount.subpath}"
        known = files.known_digest(selection)
        if known is not None:
            return known
        from minibuild.context.select import select

        return files.digest(selection, select(files.view, mount.subpath))

    def _copy(
        self,
        step: steps.CopyStep,
        parent: Filesystem,
        made_ns: int,
        running: Running | None,
        place: Place | None = None,
    ) -> Outcome:
        gathered = copy.gather(
            self.session,
            step,
            self._files(step.source),
            parent,
            made_ns,
            write_first=self._lookup.writes_first,
        )
        parts = keys.copy_parts(
            step,
            parent=parent.chain,
            platform=self._platform,
            epoch=f"{self._epoch} {made_ns}",
            contents=gathered.contents,
        )

        def execute() -> Layer:
            return copy.write_copy(gathered)

        return self._lookup.step(step, parts, execute, running, place)

    def _workdir(
        self, step: steps.WorkdirStep, parent: Filesystem, made_ns: int, running: Running, place: Place
    ) -> Outcome:
        parts = keys.workdir_parts(
            step, parent=parent.chain, platform=self._platform, epoch=f"{self._epoch} {made_ns}"
        )

        def execute() -> Layer:
            return copy.write_workdir(self.session, step, parent, made_ns)

        return self._lookup.step(step, parts, execute, running, place)

    @property
    def _epoch(self) -> str:
        return "" if self.plan.epoch is None else str(self.plan.epoch)


def _may_begin(step: Step) -> bool:
    """Whether some of the step can be done before its turn."""
    return isinstance(step, steps.CopyStep) and (
        step.link or any(isinstance(item, steps.UrlItem | steps.GitItem) for item in step.items)
    )


def _created_ns(created: str) -> int:
    """An image's creation time in whole seconds, as nanoseconds; a usable stand-in where it has none."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(whole_seconds(created))
    except ValueError:
        return _NO_TIME_NS
    return max(int(moment.timestamp()) * 1_000_000_000, _NO_TIME_NS)
