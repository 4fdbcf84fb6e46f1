"""Who works next where only so many steps may (`--jobs`)."""

from __future__ import annotations

import threading

import pytest
from minibuild_store.turns import Slots

from minibuild.dockerfile.parse import parse
from minibuild.engine.criticalpath import steps_after
from minibuild.oci.platform import Platform
from minibuild.plan.lower import lower
from minibuild.plan.options import LowerOptions, Source

LIMIT = 60  # seconds, for what takes none

CHAIN = """\
FROM scratch AS first
RUN echo first > /first
FROM scratch AS lone
RUN echo lone > /lone
FROM scratch AS long
RUN echo a > /a
RUN echo b > /b
FROM long AS longer
RUN echo c > /c
FROM scratch
COPY --from=first /first /
COPY --from=lone /lone /
COPY --from=longer /c /
"""


class NoBases:
    """For stages that all begin with nothing."""

    def named_context(self, name: str, platform: Platform) -> Source | None:
        return None

    def has_context(self, name: str) -> bool:
        return False

    def __getattr__(self, name: str) -> object:
        pytest.fail(f"{name}: no image is used here")


def test_of_those_that_wait_the_one_with_the_most_left_goes_first() -> None:
    slots, order = Slots(1), list[int]()
    threads = []

    def work(left: int) -> None:
        with slots.taken(left):
            order.append(left)

    with slots.taken(0):
        for count, left in enumerate((2, 7, 5), 1):
            thread = threading.Thread(target=work, args=(left,))
            thread.start()
            threads.append(thread)
            while len(slots._waiting) < count:
                assert thread.is_alive()
    for thread in threads:
        thread.join(LIMIT)
    assert order == [7, 5, 2]


def test_a_slot_is_free_again_after_an_error() -> None:
    slots = Slots(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="a step"), slots.taken(1):
            raise ValueError("a step failed")


def test_the_steps_after_a_stage_are_those_of_the_longest_chain() -> None:
    plan = lower(parse(CHAIN), LowerOptions(), NoBases())
    # last COPY --from=first: three steps are left there; long: one RUN of longer, then one COPY
    assert steps_after(plan) == {0: 3, 1: 2, 2: 2, 3: 1, 4: 0}
