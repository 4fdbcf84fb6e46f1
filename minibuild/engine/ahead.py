"""Work of a stage that needs nothing of the steps before it, begun before its turn.

A linked COPY or ADD is made beside what comes before it; what another ADD fetches is fetched meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from minibuild_store import stopping

from minibuild.errors import Cancelled
from minibuild.plan import steps
from minibuild.plan.steps import FromStage, GitItem, StagePlan, Step, UrlItem

T = TypeVar("T")


class Begun(Generic[T]):
    """A call on a thread of its own, from now on."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=stopping.carried(self._run))
        self._thread.start()

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
