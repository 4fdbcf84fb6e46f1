"""What a build says while it runs, and the steps in progress, in whose name their threads say it."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from minibuild.engine.layerblobs import LayerNotShared
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild.cache.journal import Cause
    from minibuild.engine.masking import Masker, Masks
    from minibuild.oci.descriptor import Descriptor

T = TypeVar("T")


def _nothing() -> None:
    pass


def _last() -> int:
    return 0


class Voice:
    """Tells `sink` what happens, one event at a time, whichever thread it happens in."""

    def __init__(self, sink: EventSink) -> None:
        self.current = threading.local()
        self.masks: Masks | None = None
        self._sink = sink
        self._mutex = threading.RLock()
        self._ids = itertools.count(1)
        self._said: set[str] = set()

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

    def step(self, name: str) -> Running:
        return Running(self, next(self._ids), name)

    def as_step(self, call: Callable[[], T]) -> Callable[[], T]:
        """`call` for another thread, as work of the step that this thread works on."""
        running = self.running()

        def called() -> T:
            self.current.step = running
            return call()

        return called

    def lasting(self) -> None:
        """Tell the step that this thread works on that it takes a while."""
        running = self.running()
        if running is not None:
            running.lasting()

    def running(self) -> Running | None:
        """The step that this thread works on."""
        running: Running | None = getattr(self.current, "step", None)
        return running

    def said(self, text: str) -> None:
        """Output of the step that this thread works on."""
        running = self.running()
        if running is not None:
            running.output(1, f"{text}\n".encode())

    def pulled(self, descriptor: Descriptor, done: int) -> None:
        """Tell how much of a blob has come, as progress of the step that this thread works on."""
        running = self.running()
        identity = running.id if running is not None else 0
        self.emit(StepProgress(identity, str(descriptor.digest), done, descriptor.size))


class Running:
    """A step in progress: started when the block is entered, finished or failed when it is left."""

    def __init__(self, voice: Voice, identity: int, name: str) -> None:
        self._voice = voice
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
        self._voice.current.step = self
        self._voice.emit(StepStarted(self.id, self.name))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds = self.seconds
        self.end_output()
        self._voice.current.step = None
        if isinstance(error, LayerNotShared) and error.expected:
            self.output(1, b"needs files that no cache holds: what makes them runs first\n")
        elif error is not None:
            self._voice.emit(StepFailed(self.id, seconds, _said(error)))
            return
        self._voice.emit(StepFinished(self.id, seconds, self.cached, self.bytes))

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
        self._voice.emit(StepMissed(self.id, cause.reason, cause.details, cause.kind))

    def output(self, stream: int, data: bytes) -> None:
        """What the step prints; values of secrets are masked."""
        if self._voice.masks is not None:
            from minibuild.engine.masking import Masker

            if stream not in self._maskers:
                self._maskers[stream] = Masker(self._voice.masks)
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
            self._voice.emit(StepOutput(self.id, stream, data))


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        from minibuild.refusals import named

        return f"{named(error)}{error.strerror.lower()}"
    return str(error)
