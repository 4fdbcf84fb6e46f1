"""The steps of a plan, each with what its key is made of and what executes it.

Nothing here knows an order: a build (`solve`), a dry run and a rehearsal each go through the stages in a way
of their own.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from minibuild.engine import copy, loading
from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Filesystem, Layer, image_filesystem
from minibuild.engine.gathered import Gathered, TreeLower
from minibuild.engine.inputs import Inputs
from minibuild.engine.lookup import Lookup, Outcome, Place
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles, ContextTree, Files, NoFiles, TreeFiles
from minibuild.engine.stagerows import copied_stages
from minibuild.engine.voice import Running
from minibuild.errors import UsageError
from minibuild.exporters.assemble import whole_seconds
from minibuild.plan import keys, steps
from minibuild.plan.steps import FromContext, FromImage, FromScratch, FromStage, Plan, Source, StagePlan, Step

if TYPE_CHECKING:
    from minibuild_store.digest import Digest

    from minibuild.engine.devices import Devices

# What we make ourselves must not carry the clock. A base's own time is as good as any; without one, a
# time that zip archives can hold in every time zone (they begin in 1980).
_NO_TIME_NS = 315_619_200 * 1_000_000_000
_DIGITS = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))  # of an RFC 3339 time
_DAYS_TO_1970 = 719_468  # from the first of March of the year 0


class KeyedSteps:
    """The steps of one plan; thread-safe, since stages may be gone through side by side."""

    def __init__(self, session: Session, plan: Plan, bases: ImageBases, inputs: Inputs) -> None:
        self.session = session
        self.plan = plan
        self._bases = bases
        self._inputs = inputs
        self._lookup = self._new_lookup()
        self._platform = str(plan.target.config.platform)
        self._contexts: dict[tuple[str, int], ContextFiles] = {}
        self._trees: dict[str, TreeFiles] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._devices: Devices | None = None
        self._copied_stages = copied_stages(plan)
        self._last_runs: dict[int, int] = {}  # by stage
        self._images: dict[Digest, Filesystem] = {}
        self._mutex = threading.Lock()

    def _finished(self, index: int) -> Filesystem:
        """The filesystem of a stage that others build on or copy from."""
        raise NotImplementedError

    def _keyed(self, place: Place, step: Step, parent: Filesystem, made_ns: int, running: Running) -> Outcome:
        """What comes of `step` on `parent`: looked up, else made."""
        match step:
            case steps.RunStep():
                return self._run(step, parent, running, place)
            case steps.CopyStep():
                return self._copy(step, parent, made_ns, running, place)
            case steps.WorkdirStep():
                return self._workdir(step, parent, made_ns, running, place)

    def _new_lookup(self) -> Lookup:
        return Lookup(self.session)

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
                return self._finished(index)
            case FromImage(image):
                self.session.layers.know(image)
                known = self._images.get(image.digest)  # with what was seen of it
                return known or self._images.setdefault(image.digest, image_filesystem(image))
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
        self.session.at_work()
        with self.session.working():
            return files.digest(selection, files.survey(mount.subpath))

    def _files_of(self, step: steps.CopyStep) -> Files:
        """What the step copies from."""
        reads = any(isinstance(item, steps.PathItem) for item in step.items)
        return self._files(step.source) if reads else NoFiles()

    def _copy(
        self,
        step: steps.CopyStep,
        parent: Filesystem,
        made_ns: int,
        running: Running | None,
        place: Place | None = None,
    ) -> Outcome:
        lower = TreeLower(self.session, parent, runs_later=self._runs_later(place))
        files, first = self._files_of(step), self._lookup.writes_first
        noted = self._copied_from(place)
        gathered = copy.gather(self.session, step, files, lower, made_ns, write_first=first, noted=noted)
        return self._gathered(gathered, parent, running, place)

    def _gathered(
        self, gathered: Gathered, parent: Filesystem, running: Running | None, place: Place | None
    ) -> Outcome:
        """A COPY or ADD whose sources are known."""
        step = gathered.step
        copy.note_written(gathered, parent.chain)
        parts = keys.copy_parts(
            step,
            parent=parent.chain,
            platform=self._platform,
            epoch=f"{self._epoch} {gathered.made_ns}",
            contents=gathered.contents,
        )

        def execute() -> Layer:
            from minibuild.engine import copylayer

            with self.session.working():
                layer = copylayer.write_copy(gathered)
            if place is None and self.session.layers.stand_ins is None:
                loading.check_names(self.session.layers.index(layer))
            return layer

        return self._lookup.step(step, parts, execute, running, place)

    def _workdir(
        self, step: steps.WorkdirStep, parent: Filesystem, made_ns: int, running: Running, place: Place
    ) -> Outcome:
        parts = keys.workdir_parts(
            step, parent=parent.chain, platform=self._platform, epoch=f"{self._epoch} {made_ns}"
        )

        def execute() -> Layer:
            from minibuild.engine.copylayer import write_workdir

            return write_workdir(self.session, step, parent, made_ns, runs_later=self._runs_later(place))

        return self._lookup.step(step, parts, execute, running, place)

    def _copied_from(self, place: Place | None) -> bool:
        """Whether other steps may ask for the contents of what the step makes."""
        return place is not None and place.stage.index in self._copied_stages

    def _runs_later(self, place: Place | None) -> bool:
        """Whether a RUN comes after the step, in its stage."""
        if place is None:
            return False
        stage = place.stage
        last = self._last_runs.get(stage.index)
        if last is None:
            runs = (number for number, step in enumerate(stage.steps) if isinstance(step, steps.RunStep))
            last = self._last_runs[stage.index] = max(runs, default=-1)
        return place.number < last

    @property
    def _epoch(self) -> str:
        return "" if self.plan.epoch is None else str(self.plan.epoch)


def _created_ns(created: str) -> int:
    """An image's creation time in whole seconds, as nanoseconds; a usable stand-in where it has none."""
    text = whole_seconds(created)
    if not text:
        return _NO_TIME_NS
    year, month, day, hour, minute, second = (int(text[at:end]) for at, end in _DIGITS)
    # a year that begins in March has its leap day last; loading datetime takes longer than a step
    year -= month <= 2
    days = 365 * year + year // 4 - year // 100 + year // 400 - _DAYS_TO_1970
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    if time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) != text:  # no such day, or hour
        return _NO_TIME_NS
    return max(seconds * 1_000_000_000, _NO_TIME_NS)
