"""What one replay remembers from commit to commit, and what it says of each step."""

from __future__ import annotations

from collections.abc import Mapping

from minibuild.lab.costs import Costs
from minibuild.lab.shelf import Shelf
from minibuild.lab.standin import LayerTable, RunOutput
from minibuild.values import NamedTuple, dataclass, field


class StepRow(NamedTuple):
    """One step of one commit's build.

    `seconds` and `bytes` are what executing it costs, whether it was or not; `cause` is why it missed, "" for
    a hit. `assumed` says that its key is made of something a RUN wrote, which nobody knows. `pulled` are
    bytes that it fetched from a shared cache; `origin` says whose the seconds are.
    """

    stage: str
    number: int
    name: str
    instruction: str
    hit: bool
    cause: str
    key: str
    seconds: float
    bytes: int
    pulled: int = 0
    assumed: bool = False
    origin: str = ""


Parts = Mapping[str, str]
Slot = tuple[str, str, int]
"""A stage, an instruction's text, and how many of that text came before it there."""


@dataclass(slots=True)
class Memory:
    """What one replay remembers from commit to commit."""

    shelf: Shelf
    costs: Costs
    output: RunOutput = "new"
    shared: bool = False
    """Whether every build begins on a fresh machine. The shelf is then a shared cache under one name.

    It holds the steps of the last build that succeeded, as ``--cache-to mode=max`` writes them; what a build
    loads for mounts is never part of that.
    """
    layers: LayerTable = field(default_factory=dict)
    parts: dict[Slot, Parts] = field(default_factory=dict)
    ordinal: int = 0
    assumed: bool = False


def slot_of(stage: str, instruction: str, seen: Mapping[Slot, Parts]) -> Slot:
    """The next free slot of that instruction in that stage."""
    count = 0
    while (stage, instruction, count) in seen:
        count += 1
    return stage, instruction, count
