"""The cache of a replay: what is in it, what it takes, what goes when it is full.

`value` is the rule that the store itself keeps its cap by (`minibuild.cache.eviction`); `lru` is what most
caches do; `none` lets everything stay. The clock is the commits'.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from minibuild.cache.eviction import worth
from minibuild.cache.inventory import Thing
from minibuild.engine.filesystem import Layer
from minibuild.errors import UsageError
from minibuild.values import dataclass

PolicyName = Literal["none", "lru", "value"]
POLICIES: tuple[PolicyName, ...] = ("none", "lru", "value")


@dataclass(frozen=True, slots=True)
class Room:
    """A rule and the most bytes that may stay after a build; None is no limit."""

    policy: PolicyName = "none"
    size: int | None = None

    def __str__(self) -> str:
        if self.policy == "none" or self.size is None:
            return "all kept"
        return f"{self.policy} {_size(self.size)}"


@dataclass(slots=True)
class Held:
    """The result of one step; times are in seconds, `used` the last build's that looked it up."""

    layer: Layer
    bytes: int
    seconds: float
    created: float
    used: float
    order: int = 0


class Shelf:
    """Results by their keys. `turn` counts look-ups, so that ties in time have an order."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.evicted: set[str] = set()
        self.bytes = 0
        self.most = 0
        self.evictions = 0
        self._held: dict[str, Held] = {}
        self._turn = 0

    def find(self, key: str, now: float) -> Held | None:
        """What is held under `key`, marked as used."""
        held = self._held.get(key)
        if held is not None:
            self._turn += 1
            held.used, held.order = now, self._turn
        return held

    def put(self, key: str, held: Held) -> None:
        old = self._held.pop(key, None)
        self._turn += 1
        held.order = self._turn
        self._held[key] = held
        self.evicted.discard(key)
        self.bytes += held.bytes - (old.bytes if old is not None else 0)
        self.most = max(self.most, self.bytes)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget all but `keys`: what is written over a shared cache takes its place."""
        self._held = {key: held for key, held in self._held.items() if key in keys}
        self.bytes = sum(held.bytes for held in self._held.values())

    def keep_cap(self, now: float) -> None:
        """Let go what has to."""
        size = self.room.size
        if self.room.policy == "none" or size is None or self.bytes <= size:
            return
        for key in self._worst_first(now):
            if self.bytes <= size:
                break
            self.bytes -= self._held.pop(key).bytes
            self.evicted.add(key)
            self.evictions += 1

    def _worst_first(self, now: float) -> list[str]:
        if self.room.policy == "lru":
            return sorted(self._held, key=lambda key: self._held[key].order)
        return sorted(self._held, key=lambda key: (_worth(self._held[key], now), self._held[key].order))


def _worth(held: Held, now: float) -> float:
    thing = Thing("step", "", bytes=held.bytes, seconds=held.seconds, used_ns=int(held.used * 1e9))
    return worth(thing, int(now * 1e9))


def room(policy: str, size: int | None) -> Room:
    """The value of ``--policy`` and ``--size``; raises `UsageError`."""
    for name in POLICIES:
        if policy == name:
            if name != "none" and size is None:
                raise UsageError(f"--policy {name} needs a --size", cure="Say how much may stay: --size 5GB.")
            return Room(name, size)
    raise UsageError(f"--policy {policy!r} is none of {', '.join(POLICIES)}")


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:g}{unit}"
    return f"{count}B"
