"""Work of a stage that is begun before its turn.

A linked COPY or ADD is made beside what comes before it; what another ADD fetches is fetched meanwhile. The
layers of COPYs that follow one another are written side by side (`foresight`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from minibuild_store import stopping

from minibuild.engine.filesystem import Filesystem
from minibuild.errors import Cancelled
from minibuild.plan import steps
from minibuild.plan.steps import FromStage, GitItem, StagePlan, Step, UrlItem
from minibuild.threads import start

T = TypeVar("T")


class Begun(Generic[T]):
    """A call on a thread of its own, from now on."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=stopping.carried(self._run))
        start(self._thread)

    def _run(self) -> None:
        try:
            self._found.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def wait(self) -> None:
        self._done.wait()  # an interrupted join would take the thread for ended (Python 3.11)
        self._thread.join()

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        if not self._found:
            raise Cancelled
        return self._found[0]

    def over(self, parent: Filesystem) -> T:
        """The result, now that what lies below it is known, should it matter."""
        return self.result()

    def end(self) -> None:
        """Wait until it has stopped; its turn does not come any more."""
        self.wait()


class Turn:
    """The moment when all that comes before a step is done; it may never come."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._parent: Filesystem | None = None

    def give(self, parent: Filesystem | None) -> None:
        """`parent` is what the steps before it left, None where one of them failed."""
        if not self._settled.is_set():
            self._parent = parent
            self._settled.set()

    def wait(self) -> Filesystem:
        self._settled.wait()
        self.check()
        assert self._parent is not None
        return self._parent

    def check(self) -> None:
        """Raise `Cancelled` where it will not come."""
        if self._settled.is_set() and self._parent is None:
            raise Cancelled


class Early(Begun[T]):
    """A step that is begun before its turn, and waits for it before it ends."""

    def __init__(self, call: Callable[[Turn], T]) -> None:
        self._turn = Turn()
        super().__init__(partial(self._until_dropped, call))

    def over(self, parent: Filesystem) -> T:
        self._turn.give(parent)
        return self.result()

    def end(self) -> None:
        self._turn.give(None)
        self.wait()

    def _until_dropped(self, call: Callable[[Turn], T]) -> T:
        with stopping.checking(partial(_both, stopping.current(), self._turn.check)):
            return call(self._turn)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def independent(stage: StagePlan) -> list[int]:
    """The steps that can be made while others of the stage, or its base, are.

    Of two that say the same, the second waits for its turn and finds what the first one made.
    """
    first = 0 if isinstance(stage.base, FromStage) else 1
    numbers = {step.instruction: number for number, step in reversed([*enumerate(stage.steps)])}
    return [
        number for number in sorted(numbers.values()) if number >= first and is_linked(stage.steps[number])
    ]


def remote(stage: StagePlan) -> list[UrlItem | GitItem]:
    """What the other steps fetch that have to wait before they can be made."""
    waiting = stage.steps if isinstance(stage.base, FromStage) else stage.steps[1:]
    return [
        item
        for step in waiting
        if isinstance(step, steps.CopyStep) and not step.link
        for item in step.items
        if isinstance(item, UrlItem | GitItem)
    ]


def is_linked(step: Step) -> bool:
    return isinstance(step, steps.CopyStep) and step.link
