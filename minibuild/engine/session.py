"""One build while it runs: the parts it uses, made when first needed, and its voice."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from minibuild_store import stopping
from minibuild_store.errors import StoreError
from minibuild_store.files import remove_tree
from minibuild_store.store import Store

from minibuild.cache.journal import Cause, Journal
from minibuild.cache.steps import StepCache, StepRecord
from minibuild.engine.layerblobs import LayerNotShared
from minibuild.engine.layerforms import Layers
from minibuild.engine.request import BuildRequest, StepReport
from minibuild.errors import Cancelled, MinibuildError
from minibuild.events import (
    EventSink,
    Notice,
    StepFailed,
    StepFinished,
    StepMissed,
    StepOutput,
    StepProgress,
    StepStarted,
)
from minibuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibuild_store.session import Lease, Workspace

    from minibuild.cache.shared import SharedCaches
    from minibuild.engine.ahead import Begun
    from minibuild.engine.failure import FailedStep, OnFailure
    from minibuild.engine.fetched import Fetched
    from minibuild.engine.masking import Masker, Masks
    from minibuild.engine.workrooms import Workrooms
    from minibuild.plan.steps import CacheMount, GitItem, UrlItem
    from minibuild.registry.client import Registry
    from minibuild.sandbox.client import Sandbox
    from minibuild.sandbox.executor import Executor
    from minibuild.sandbox.spawn import Launched


def read_ca_bundle(path: Path | None) -> bytes:
    """The certificates of --ca-bundle, b"" without one. Raises `UsageError`."""
    if path is None:
        return b""
    from minibuild.engine.trust import read_bundle

    return read_bundle(path)


T = TypeVar("T")


class Stop(threading.Event):
    """Set when a stage has failed, or when the caller's own event is set."""

    def __init__(self, outer: threading.Event | None) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        return super().is_set() or (self._outer is not None and self._outer.is_set())


def _nothing() -> None:
    pass


def _last() -> int:
    return 0


class Session:
    """Shared by all threads of one build. Close it, or use it as a context manager."""

    def __init__(
        self,
        store: Store,
        request: BuildRequest,
        sink: EventSink,
        cancel: threading.Event | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.store = store
        self.request = request
        self.cancel = cancel
        self.stop = Stop(cancel)
        self._checking = stopping.checking(self.check)  # in the caller's thread and those of its work
        self.cache = StepCache(store)
        self.journal = Journal(store)
        self.shared: SharedCaches | None = None
        self.from_shared: dict[str, StepRecord] = {}
        self.cache_mounts: list[tuple[CacheMount, str]] = []  # of all steps, with what each begins with
        self.layers = Layers(
            store, registry=self.registry, sandbox=self.sandbox, pulled=self.pulled, lease=self.lease
        )
        self.layers.pulls = request.pull != "never"
        self.layers.as_step = self.as_step
        self.layers.working = self.working
        self.fetches: dict[UrlItem | GitItem, Begun[Fetched]] = {}  # begun before the turn of their steps
        self.reports: list[StepReport] = []
        self.seconds_saved = 0.0
        self.epoch = request.epoch
        self.ca_bundle = read_ca_bundle(request.ca_bundle)
        self._sink = sink
        self._mutex = threading.RLock()
        self._starting = threading.RLock()  # held for the time that a sandbox takes to start; before `_mutex`
        self._ahead: threading.Thread | None = None
        self._ids = itertools.count(1)
        self._registry: Registry | None = None
        self._launched: Launched | None = None
        self._sandbox: Sandbox | None = None
        self._ending: list[Sandbox] = []
        self._executor: Executor | None = None
        self._rooms: Workrooms | None = None
        self._trees: Workspace | None = None
        self._lease: Lease | None = None
        self._current = threading.local()
        self._said: set[str] = set()
        self._on_failure = on_failure
        self.examined = on_failure is not None
        """Whether somebody wants to look at steps that fail here."""
        self.masks: Masks | None = None
        self.at_work: Callable[[], None] = _nothing
        """Called before anything that takes longer than looking a step up."""
        self.in_pause: Callable[[], None] = _nothing
        """Called once where there is nothing to do but to wait for commands."""

    def __enter__(self) -> Session:
        self._checking.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._checking.__exit__(None, None, None)  # what is tidied up now is not to be stopped
        self.close()

    def rest(self) -> None:
        """Let the sandbox go, without waiting for its end. Who needs one after this gets another."""
        if self._ahead is not None:
            self._ahead.join()
        with self._mutex:
            if self._rooms is not None:
                self._rooms.close()
                self._rooms = None
            if self._trees is not None:
                self._trees.__exit__()
                self._trees = None
            if self._executor is not None and self._executor is not self._sandbox:
                self._executor.close()
            self._executor = None
            if self._sandbox is not None:
                with contextlib.suppress(StoreError):
                    self.store.clean(remove=self._removed)
                self._sandbox.hang_up()
                self._ending.append(self._sandbox)
                self._sandbox = None

    def close(self) -> None:
        self.rest()
        with self._mutex:
            while self._ending:
                self._ending.pop().close()
            if self._registry is not None:
                self._registry.close()
                self._registry = None
            if self.shared is not None:
                self.shared.close()
            if self._lease is not None:
                self._lease.__exit__()
                self._lease = None

    def lease(self, *names: str) -> None:
        """Keep blobs (by digest) and snapshots (by name) from gc until this build ends."""
        if not names:
            return
        with self._mutex:
            if self._lease is None:
                self._lease = self.store.lease().__enter__()
            self._lease.add(*names)

    def registry(self) -> Registry:
        with self._mutex:
            if self._registry is None:
                from minibuild.registry.client import Registry

                self._registry = Registry(self.request.registry)
            return self._registry

    def sandbox(self) -> Sandbox:
        with self._starting:
            sandbox = self._started()
        self.notice("note", sandbox.describe())
        return sandbox

    def start_ahead(self) -> None:
        """Start the sandbox while other things go on. Where it cannot be started, who wants it is told."""

        def start() -> None:
            with self._starting, contextlib.suppress(Exception):
                self._started()

        self._launch()
        self._ahead = threading.Thread(target=start, daemon=True)
        self._ahead.start()

    def _launch(self) -> None:
        """Start the sandbox's process; it takes as long to serve as its client to be loaded here."""
        from minibuild.sandbox import spawn
        from minibuild.sandbox.executor import own_isolation

        self._launched = spawn.launch(own_isolation(self.request.isolation))

    def _started(self) -> Sandbox:
        if self._sandbox is None:
            if self._launched is None:
                self._launch()
            from minibuild.engine.trial import known_to_work
            from minibuild.sandbox.client import Sandbox
            from minibuild.sandbox.executor import own_isolation

            launched, self._launched = self._launched, None
            self._sandbox = Sandbox.start(
                own_isolation(self.request.isolation),
                runtime=self.request.oci_runtime,
                trial=known_to_work(self.store),
                launched=launched,
            )
            if self._sandbox.lends_folders:
                self._trees = self.store.snapshots.workspace(remove=self._sandbox.remove)
                self._sandbox.keep_trees(self._trees.__enter__())
        return self._sandbox

    def executor(self) -> Executor:
        """What runs processes: the sandbox, or what the caller or another package brings."""
        with self._starting:
            if self._executor is None:
                from minibuild.sandbox.executor import executor_for

                sandbox, make = self.sandbox(), self.request.executor
                self._executor = make(sandbox) if make else executor_for(self.request.isolation, sandbox)
                if self._executor is not sandbox:
                    self.notice("note", self._executor.describe())
            return self._executor

    def rooms(self) -> Workrooms:
        """The folders that RUNs work in."""
        with self._starting:
            if self._rooms is None:
                from minibuild.engine.workrooms import Workrooms

                self._rooms = Workrooms(self.store.snapshots, self.remove)
            return self._rooms

    def remove(self, folder: Path) -> None:
        """Delete a folder that may hold files of subordinate users."""
        try:
            remove_tree(folder)  # mostly empty folders of our own: no need of a process for that
        except OSError:
            self.sandbox().remove(folder)

    def _removed(self, folder: Path) -> None:
        """`remove` as the store wants it, for what builds that were killed have left."""
        try:
            self.remove(folder)
        except MinibuildError as error:
            raise OSError(error.message) from error

    def check(self) -> None:
        """Raise `Cancelled` where the caller, or a failing stage, has stopped the build."""
        if self.stop.is_set():
            raise Cancelled

    def _check_caller(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled

    def emit(self, event: object) -> None:
        with self._mutex:
            self._sink(event)  # type: ignore[arg-type]

    def mask(self, secret: bytes) -> None:
        """Show the value of a secret nowhere in what steps print."""
        from minibuild.engine.masking import Masks

        with self._mutex:
            if self.masks is None:
                self.masks = Masks()
        self.masks.add(secret)

    def notice(self, kind: str, text: str) -> None:
        """Say something once a build."""
        with self._mutex:
            if text not in self._said:
                self._said.add(text)
                self.emit(Notice(kind, text))

    def failed(self, make: Callable[[], FailedStep]) -> None:
        """Show the first step that fails to whoever wants to see it; the others stop, or keep going."""
        with self._mutex:
            on_failure, self._on_failure = self._on_failure, None
        if on_failure is not None:
            if not self.request.keep_going:
                self.stop.set()
            with self.after_failure():
                on_failure(make())

    def after_failure(self) -> contextlib.AbstractContextManager[None]:
        """For what is done once a failing stage has stopped the build: only the caller may stop it."""
        return stopping.checking(self._check_caller)

    def begin_again(self) -> None:
        """Forget what was reported, before the steps are gone through another time."""
        self.stop.clear()
        self.fetches.clear()
        self.reports.clear()
        self.seconds_saved = 0.0

    def step(self, name: str) -> Running:
        return Running(self, next(self._ids), name)

    def as_step(self, call: Callable[[], T]) -> Callable[[], T]:
        """`call` for another thread, as work of the step that this thread works on."""
        running = getattr(self._current, "step", None)

        def called() -> T:
            self._current.step = running
            return call()

        return called

    def lasting(self) -> None:
        """Tell the step that this thread works on that it takes a while."""
        running = getattr(self._current, "step", None)
        if running is not None:
            running.lasting()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """For what keeps a processor busy: a turn (`minibuild_store.turns`) for the step of this thread."""
        from minibuild_store import turns

        running: Running | None = getattr(self._current, "step", None)
        with contextlib.ExitStack() as turn:
            if running is None:
                turn.enter_context(turns.working())
            else:
                running.waits(partial(turn.enter_context, turns.working(running.left())))
            yield

    def said(self, text: str) -> None:
        """Output of the step that this thread works on."""
        running = getattr(self._current, "step", None)
        if running is not None:
            running.output(1, f"{text}\n".encode())

    def pulled(self, descriptor: Descriptor, done: int) -> None:
        """Tell how much of a blob has come, as progress of the step that this thread works on."""
        running = getattr(self._current, "step", None)
        identity = running.id if running is not None else 0
        self.emit(StepProgress(identity, str(descriptor.digest), done, descriptor.size))


class Running:
    """A step in progress: started when the block is entered, finished or failed when it is left."""

    def __init__(self, session: Session, identity: int, name: str) -> None:
        self._session = session
        self.id = identity
        self.name = name
        self.cached = False
        self.bytes = 0
        self.reason = ""
        self.saved = 0.0
        self.keep: Callable[[int, bytes], None] | None = None
        """What gets the output besides, as it is shown."""
        self.lasting: Callable[[], None] = _nothing
        """Called once it turns out that the step takes a while."""
        self.left: Callable[[], int] = _last
        """How many steps come one after the other from here."""
        self._start = 0.0
        self._waited = 0.0
        self._thread = 0
        self._maskers: dict[int, Masker] = {}

    def __enter__(self) -> Running:
        self._start = time.monotonic()
        self._thread = threading.get_ident()
        self._session._current.step = self
        self._session.emit(StepStarted(self.id, self.name))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds = self.seconds
        self.end_output()
        self._session._current.step = None
        if isinstance(error, LayerNotShared) and error.expected:
            self.output(1, b"needs files that no cache holds: what makes them runs first\n")
        elif error is not None:
            self._session.emit(StepFailed(self.id, seconds, _said(error)))
            return
        self._session.emit(StepFinished(self.id, seconds, self.cached, self.bytes))

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self._start - self._waited

    def waits(self, wait: Callable[[], T]) -> T:
        """What `wait` returns; no work of the step, but for its helpers: many of them may wait at once."""
        start = time.monotonic()
        try:
            return wait()
        finally:
            if threading.get_ident() == self._thread:
                self._waited += time.monotonic() - start

    def missed(self, cause: Cause) -> None:
        self.reason = cause.reason
        self._session.emit(StepMissed(self.id, cause.reason, cause.details, cause.kind))

    def output(self, stream: int, data: bytes) -> None:
        """What the step prints; values of secrets are masked."""
        if self._session.masks is not None:
            from minibuild.engine.masking import Masker

            if stream not in self._maskers:
                self._maskers[stream] = Masker(self._session.masks)
            data = self._maskers[stream].feed(data)
        self._show(stream, data)

    def end_output(self) -> None:
        """Show what was kept back because it might become the value of a secret."""
        for stream, masker in self._maskers.items():
            self._show(stream, masker.end())

    def _show(self, stream: int, data: bytes) -> None:
        if data:
            if self.keep is not None:
                self.keep(stream, data)
            self._session.emit(StepOutput(self.id, stream, data))


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}"
    return str(error)
