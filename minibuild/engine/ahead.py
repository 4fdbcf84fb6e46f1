"""Work of a stage that needs nothing of the steps before it, begun before its turn.

A linked COPY or ADD is made beside what comes before it; what another ADD fetches is fetched meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from minibuild.engine.session import Session
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
        self._thread = threading.Thread(target=self._run)
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
    """The steps that can be made while others of the stage, or its base, are."""
    first = 0 if isinstance(stage.base, FromStage) else 1
    return [number for number, step in enumerate(stage.steps) if number >= first and is_linked(step)]


def fetch(session: Session, stage: StagePlan) -> None:
    """Begin to fetch what those steps need that have to wait for others before they can be made."""
    waiting = stage.steps if isinstance(stage.base, FromStage) else stage.steps[1:]
    for step in waiting:
        for item in step.items if isinstance(step, steps.CopyStep) and not step.link else ():
            if isinstance(item, UrlItem | GitItem) and item not in session.fetches:
                from minibuild.engine.fetch import fetch_now

                session.fetches[item] = Begun(partial(fetch_now, session, item))


def is_linked(step: Step) -> bool:
    return isinstance(step, steps.CopyStep) and step.link
