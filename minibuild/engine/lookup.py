"""One step against the caches: found by its key, or executed while others who want the same wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreBusy

from minibuild.cache.journal import Cause
from minibuild.cache.steps import StepRecord
from minibuild.engine.filesystem import Layer
from minibuild.engine.session import Session
from minibuild.engine.voice import Running
from minibuild.plan import keys
from minibuild.plan.steps import RunStep, StagePlan, Step
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.cache.explain import Explainer
    from minibuild.engine.failures import Waiter


class Place(NamedTuple):
    """Which step of which stage is looked up; what has no place is nobody's step and is not explained."""

    stage: StagePlan
    number: int


class Outcome(NamedTuple):
    """How a step went: `cause` says why it was executed, `origin` which shared cache had it."""

    record: StepRecord
    hit: bool
    key: str
    parts: keys.Parts
    cause: Cause | None = None
    origin: str = ""


class Lookup:
    """The lookups of one build; `now` is the moment that its new layers are dated with."""

    def __init__(self, session: Session) -> None:
        self.now = time.time()
        self._session = session
        self._explainer: Explainer | None = None
        self._mutex = threading.Lock()

    @property
    def writes_first(self) -> bool:
        """Whether a layer may be written before its key is known: not where somebody else may have it."""
        return self._session.shared is None

    def step(
        self,
        step: Step,
        parts: keys.Parts,
        execute: Callable[[], Layer],
        running: Running | None,
        place: Place | None,
    ) -> Outcome:
        """Look the key of `parts` up; else execute, while other builds of that key wait for the outcome."""
        session = self._session
        key = keys.key_of(parts)
        found = self._find(key, step, parts)
        if found is not None:
            return found
        session.at_work()
        with ExitStack() as held:
            waiter = self._turn(held, key, step, running)
            found = self._find(key, step, parts)
            if found is not None:
                return found
            if waiter is not None:
                waiter.take()
            cause = None
            if running is not None and place is not None:
                cause = self._explain(place, step, key, parts)
                running.missed(cause)
            start = time.monotonic()
            layer = self._executed(key, step, execute, running)
            # reading the sources counts too: it may have written the layer already
            seconds = time.monotonic() - start if running is None else running.seconds
            stamp = session.layers.stamp(layer.descriptor.digest)
            record = StepRecord(layer, self.now, seconds, step.name, stamp)
            session.cache.put(key, record)
            session.from_shared.pop(key, None)  # what a shared cache had, but not its layer
            if place is not None:
                session.cache.put_parts(key, parts)
        return Outcome(record, False, key, parts, cause)

    def _turn(self, held: ExitStack, key: str, step: Step, running: Running | None) -> Waiter | None:
        """Have the step alone as long as `held` lasts; who had to wait, where that may take a failure."""
        session, name = self._session, f"step {key}"
        waiter = None
        try:
            held.enter_context(session.store.lock(name, timeout=0))
        except StoreBusy:
            if isinstance(step, RunStep) and running is not None:
                from minibuild.engine import failures

                if failures.shareable(session, step):
                    waiter = held.enter_context(failures.Waiter(session, key, step, running))
            held.enter_context(session.store.lock(name, waiting=session.check))
        return waiter

    def _executed(self, key: str, step: Step, execute: Callable[[], Layer], running: Running | None) -> Layer:
        if not isinstance(step, RunStep) or running is None:
            return execute()
        from minibuild.engine.failures import shared

        with shared(self._session, key, step, running):
            return execute()

    def _find(self, key: str, step: Step, parts: keys.Parts) -> Outcome | None:
        if not step.cacheable:
            return None
        cache, layers = self._session.cache, self._session.layers
        record = cache.get(key)
        if record is not None and self._expired(step, record):
            return None
        if record is not None and layers.present(record.layer, record.stamp):
            stamp = layers.stamp(record.layer.descriptor.digest) if record.stamp else 0
            if stamp != record.stamp:  # written to, read again and found whole
                cache.put(key, record._replace(stamp=stamp))
            else:
                cache.touch(key)
            return Outcome(record, True, key, parts)
        return self._shared(key, step, parts)

    def _shared(self, key: str, step: Step, parts: keys.Parts) -> Outcome | None:
        """What a shared cache has under `key`; the layer stays there until its bytes are needed."""
        session = self._session
        hit = session.shared.find(key) if session.shared is not None else None
        if hit is None:
            return None
        cached = hit.step
        record = StepRecord(cached.layer, cached.created, cached.seconds, cached.name)
        if self._expired(step, record):
            return None
        if not session.layers.expect(cached.layer, hit.layer):
            return None
        session.from_shared[key] = record  # for the store only once its layer was here and was checked
        session.cache.put_parts(key, parts)
        return Outcome(record, True, key, parts, origin=hit.origin)

    def _ttl(self, step: Step) -> float | None:
        return self._session.request.cache_ttl if step.ttl is None else step.ttl

    def _expired(self, step: Step, record: StepRecord) -> bool:
        ttl = self._ttl(step)
        return ttl is not None and time.time() - record.created > ttl

    def _explain(self, place: Place, step: Step, key: str, parts: keys.Parts) -> Cause:
        from minibuild.engine.explain import NO_CACHE, NOT_HELD, explain, explainer

        if not step.cacheable:
            return NO_CACHE
        record = self._session.cache.get(key)
        if record is not None and self._expired(step, record):
            return Cause("expired", "its result is older than its ttl")
        if self._session.shared is not None and self._session.shared.withholds(key):
            return NOT_HELD
        with self._mutex:
            if self._explainer is None:
                self._explainer = explainer(self._session)
            return explain(self._explainer, place.stage, place.number, step, key, parts)
