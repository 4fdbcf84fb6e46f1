"""One build while it runs: the parts it uses, made when first needed, and its voice."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store import stopping
from minibuild_store.store import Store

from minibuild.cache.journal import Journal
from minibuild.cache.steps import StepCache, StepRecord
from minibuild.engine.layerforms import Layers
from minibuild.engine.request import BuildRequest, StepReport
from minibuild.engine.sandboxes import Sandboxes
from minibuild.engine.voice import Voice
from minibuild.errors import Cancelled, MinibuildError
from minibuild.events import (
    EventSink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibuild_store.session import Lease

    from minibuild.cache.shared import SharedCaches
    from minibuild.engine.ahead import Begun
    from minibuild.engine.failure import FailedStep, OnFailure
    from minibuild.engine.fetched import Fetched
    from minibuild.plan.steps import CacheMount, GitItem, UrlItem
    from minibuild.registry.client import Registry


def read_ca_bundle(path: Path | None) -> bytes:
    """The certificates of --ca-bundle, b"" without one. Raises `UsageError`."""
    if path is None:
        return b""
    from minibuild.engine.trust import read_bundle

    return read_bundle(path)


class Stop(threading.Event):
    """Set when a stage has failed, or when the caller's own event is set."""

    def __init__(self, outer: threading.Event | None) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        return super().is_set() or (self._outer is not None and self._outer.is_set())


def _nothing() -> None:
    pass


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
        voice = Voice(sink)
        self.emit, self.notice, self.mask = voice.emit, voice.notice, voice.mask
        self.step, self.as_step, self._running = voice.step, voice.as_step, voice.running
        self.said, self.pulled, self.lasting = voice.said, voice.pulled, voice.lasting
        self.sandboxes = Sandboxes(store, request, voice.notice)
        self.sandbox, self.executor = self.sandboxes.sandbox, self.sandboxes.executor
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
        self.refused: dict[UrlItem | GitItem, MinibuildError] = {}  # what others could not be had for
        self.reports: list[StepReport] = []
        self.seconds_saved = 0.0
        self.epoch = request.epoch
        self.ca_bundle = read_ca_bundle(request.ca_bundle)
        self._mutex = threading.RLock()
        self._registry: Registry | None = None
        self._lease: Lease | None = None
        self._on_failure = on_failure
        self.examined = on_failure is not None
        """Whether somebody wants to look at steps that fail here."""
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

    def close(self) -> None:
        self.sandboxes.close()
        with self._mutex:
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

    def check(self) -> None:
        """Raise `Cancelled` where the caller, or a failing stage, has stopped the build."""
        if self.stop.is_set():
            raise Cancelled

    def _check_caller(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled

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
        self.refused.clear()
        self.reports.clear()
        self.seconds_saved = 0.0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """For what keeps a processor busy: a turn (`minibuild_store.turns`) for the step of this thread."""
        from minibuild_store import turns

        running = self._running()
        with contextlib.ExitStack() as turn:
            if running is None:
                turn.enter_context(turns.working())
            else:
                running.waits(partial(turn.enter_context, turns.working(running.left())))
            yield
