"""What goes, by a policy: what nothing refers to, then what is worth least for its bytes until the rest fits.

Worth is the seconds it would take to have a thing again for each byte it takes, divided by the time that it
was not used. An unpacked layer is worth little, since its blob can be unpacked again: it goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minibuild.cache.inventory import UNPACK_RATE, Inventory, Thing
from minibuild.cache.steps import Evictor
from minibuild.values import dataclass, field

_ANY_STEP = 0.5  # seconds that a miss costs whatever the step does; without it, trifles are lost for nothing
_ONE_BUILD = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """What is to go. `keep_bytes` is the most that may stay (None: no limit), `max_age` in seconds.

    `everything` takes all that may go at all; `match` picks the things that the rules apply to; with `tagged`
    also the steps of layers that a name keeps are forgotten.
    """

    keep_bytes: int | None = None
    max_age: float | None = None
    everything: bool = False
    match: Callable[[Thing], bool] = lambda thing: True
    tagged: bool = False


@dataclass(slots=True)
class Plan:
    """The things that go, whole or only in their unpacked form, and what is left in bytes.

    `steps` are the keys that are forgotten, each with the rule that takes it.
    """

    things: list[Thing] = field(default_factory=list)
    unpacked: list[Thing] = field(default_factory=list)
    left: int = 0
    steps: dict[str, Evictor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(thing.total for thing in self.things) + sum(thing.unpacked for thing in self.unpacked)

    def take(self, thing: Thing, by: Evictor) -> None:
        self.things.append(thing)
        self.steps.update(dict.fromkeys(thing.steps, by))


def plan_for(inventory: Inventory, policy: Policy, now_ns: int) -> Plan:
    """What goes by `policy`; pinned and tagged things never do, nor the manifests of bases."""
    plan = Plan(left=inventory.bytes)
    chosen = [thing for thing in inventory.things if not thing.kept and policy.match(thing)]
    for thing in chosen:
        old = policy.max_age is not None and now_ns - thing.used_ns > policy.max_age * 1e9
        if thing.kind == "unused" or policy.everything or old:
            plan.take(thing, "max-age" if old and not policy.everything else "prune")
            plan.left -= thing.total
    if policy.keep_bytes is None:
        return plan
    gone = {id(thing) for thing in plan.things}
    ranked = sorted(
        (worth, number, whole)
        for number, thing in enumerate(chosen)
        if id(thing) not in gone
        for worth, whole in _offers(thing, now_ns)
    )
    folded: set[int] = set()
    for _, number, whole in ranked:
        if plan.left <= policy.keep_bytes:
            break
        thing = chosen[number]
        if whole:
            plan.left -= thing.total if number not in folded else thing.bytes
            plan.take(thing, "cap")
        else:
            plan.left -= thing.unpacked
            folded.add(number)
    whole_ones = {id(thing) for thing in plan.things}
    plan.unpacked = [chosen[number] for number in folded if id(chosen[number]) not in whole_ones]
    return plan


def worth(thing: Thing, now_ns: int) -> float:
    """Seconds that keeping all of a thing saves for each byte and second that it lies unused.

    Dividing by the time unused is what lets a value rule keep up with least-recently-used where most
    results are never asked for again (Blankstein, Sen, Freedman: Hyperbolic Caching, 2017).
    """
    return (thing.seconds + _ANY_STEP) / max(thing.total, 1) / _idle(thing, now_ns)


def _idle(thing: Thing, now_ns: int) -> float:
    """Seconds since a thing was used; those of one build count as used together."""
    return max(0, now_ns - thing.used_ns) / 1e9 + _ONE_BUILD


def _offers(thing: Thing, now_ns: int) -> Iterable[tuple[float, bool]]:
    """(worth, whole): the unpacked form alone first, where there is one, then all of it."""
    if thing.digest is not None and thing.unpacked:
        unpack = 0.02 + thing.bytes / UNPACK_RATE
        yield min(unpack, thing.seconds) / thing.unpacked / _idle(thing, now_ns), False
    yield worth(thing, now_ns), True
