"""A builder for programs: a store and settings kept from build to build, and events as they happen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, BuildResult
from minibuild.errors import UsageError
from minibuild.events import Event, EventSink, silent
from minibuild.registry.options import RegistryOptions
from minibuild.values import NamedTuple, replace

if TYPE_CHECKING:
    from minibuild.cache.spec import CacheSpec
    from minibuild.engine.compose import ComposeRequest, ComposeResult
    from minibuild.engine.failure import OnFailure
    from minibuild.sandbox.executor import Factory as ExecutorFactory


class _Ended(NamedTuple):
    """How a build on a thread of its own ended."""

    result: BuildResult | None = None
    error: BaseException | None = None


_Put = Callable[[Event | _Ended], None]


class Builder:
    """Builds one request after the other, or several at once, on one store. Close it, or use a `with` block.

    `store` is an open `Store`, which stays the caller's to close, or the folder of one. `isolation`,
    `executor` and `registry` count for requests that leave them as they are by default; `cache_from` and
    `cache_to` are added to those of a request. `on_event` gets every event of every build, one at a time
    for each build, on whatever thread it happens; it must not wait for the build.

        with Builder(Path("store")) as builder:
            for event in builder.stream(BuildRequest.of(".", tags=["app"])):
                print(event)
    """

    def __init__(
        self,
        store: Store | Path,
        *,
        isolation: str = "auto",
        executor: ExecutorFactory | None = None,
        registry: RegistryOptions | None = None,
        cache_from: tuple[CacheSpec, ...] = (),
        cache_to: tuple[CacheSpec, ...] = (),
        on_event: EventSink = silent,
    ) -> None:
        self._own = contextlib.ExitStack()
        self.store = store if isinstance(store, Store) else self._own.enter_context(Store.open(store))
        self._isolation = isolation
        self._executor = executor
        self._registry = registry
        self._cache_from = cache_from
        self._cache_to = cache_to
        self._on_event = on_event
        self._running: list[threading.Event] = []  # what stops the builds that run now
        self._changed = threading.Condition()
        self._telling = threading.local()
        self._closed = False

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, wait for it to end, and close the store if it is the builder's own.

        May be called twice, and from `on_event`, where it does not wait.
        """
        with self._changed:
            self._closed = True
            self.cancel()
            if not getattr(self._telling, "now", False):
                self._changed.wait_for(lambda: not self._running)
                self._own.close()

    def cancel(self) -> None:
        """Have every build that runs now end with `Cancelled`; returns at once. From any thread."""
        with self._changed:
            for stop in self._running:
                stop.set()

    def build(self, request: BuildRequest, *, on_failure: OnFailure | None = None) -> BuildResult:
        """Build, and return when it is done; as `minibuild.build`, with the builder's settings."""
        return self._build(request, silent, threading.Event(), on_failure)

    def stream(self, request: BuildRequest) -> Generator[Event | BuildResult, None, None]:
        """The build's events as they happen, and its result as the last item; raises what the build raises.

        The build begins with the first item. To stop early, leave the loop: when the iterator is closed or
        forgotten the build is cancelled, and its thread has ended. A build never waits for who reads:
        events are kept until they are taken.
        """
        items: SimpleQueue[Event | _Ended] = SimpleQueue()
        stop = threading.Event()
        thread = self._start(request, items.put, stop)
        try:
            while not isinstance(item := items.get(), _Ended):
                yield item
        finally:
            stop.set()
            thread.join()
        yield _result(item)

    async def astream(self, request: BuildRequest) -> AsyncGenerator[Event | BuildResult, None]:
        """As `stream`, for ``async for``: the loop is never held up.

        Leave early within ``contextlib.aclosing``, or by cancelling the task: then the build has ended too.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Event | _Ended] = asyncio.Queue()
        ended = asyncio.Event()
        stop = threading.Event()

        def put(item: Event | _Ended) -> None:
            try:
                loop.call_soon_threadsafe(items.put_nowait, item)
                if isinstance(item, _Ended):
                    loop.call_soon_threadsafe(ended.set)
            except RuntimeError:  # the loop is gone, and with it who read
                stop.set()

        thread = self._start(request, put, stop)
        try:
            while not isinstance(item := await items.get(), _Ended):
                yield item
        finally:
            stop.set()
            try:
                await ended.wait()
            finally:  # where even this wait is cancelled, the loop stands still until the build has ended
                thread.join()
        yield _result(item)

    def _start(self, request: BuildRequest, put: _Put, stop: threading.Event) -> threading.Thread:
        """Build on a thread of its own; `put` gets the events, then how it ended."""

        def run() -> None:
            try:
                ended = _Ended(result=self._build(request, put, stop))
            except BaseException as error:  # the reader's to see, whatever it is
                ended = _Ended(error=error)
            put(ended)

        # A program that ends must not wait for a build that nobody reads any more.
        thread = threading.Thread(target=run, name="minibuild", daemon=True)
        thread.start()
        return thread

    def _build(
        self,
        request: BuildRequest,
        put: EventSink,
        stop: threading.Event,
        on_failure: OnFailure | None = None,
    ) -> BuildResult:
        def told(event: Event) -> None:
            self._tell(event)
            put(event)

        with self._runs(stop):
            complete = self._complete(request)
            return build(complete, store=self.store, sink=told, cancel=stop, on_failure=on_failure)

    def merge(self, request: ComposeRequest) -> ComposeResult:
        """As `minibuild.merge`, with the builder's store, registries and events."""
        return self._compose("merge", request)

    def diff_layers(self, request: ComposeRequest) -> ComposeResult:
        """As `minibuild.diff_layers`, with the builder's store, registries and events."""
        return self._compose("diff_layers", request)

    def _compose(self, what: str, request: ComposeRequest) -> ComposeResult:
        from minibuild.engine import compose

        act = compose.merge if what == "merge" else compose.diff_layers
        stop = threading.Event()
        with self._runs(stop):
            request = replace(request, registry=self._registries(request.registry))
            return act(request, store=self.store, sink=self._tell, cancel=stop)

    def _tell(self, event: Event) -> None:
        self._telling.now = True
        try:
            self._on_event(event)
        finally:
            self._telling.now = False

    @contextlib.contextmanager
    def _runs(self, stop: threading.Event) -> Generator[None, None, None]:
        """While it lasts, `close` and `cancel` set `stop`, and `close` waits."""
        with self._changed:
            if self._closed:
                raise UsageError("this builder is closed", cure="Make another one.")
            self._running.append(stop)
        try:
            yield
        finally:
            with self._changed:
                self._running.remove(stop)
                self._changed.notify_all()

    def _complete(self, request: BuildRequest) -> BuildRequest:
        """The request with the builder's settings where it has none of its own."""
        return replace(
            request,
            isolation=self._isolation if request.isolation == "auto" else request.isolation,
            executor=request.executor or self._executor,
            registry=self._registries(request.registry),
            cache_from=(*request.cache_from, *self._cache_from),
            cache_to=(*request.cache_to, *self._cache_to),
        )

    def _registries(self, asked: RegistryOptions) -> RegistryOptions:
        return asked if self._registry is None or asked != RegistryOptions() else self._registry


def _result(ended: _Ended) -> BuildResult:
    if ended.error is not None:
        raise ended.error
    assert ended.result is not None
    return ended.result
