"""Making room: what nothing refers to goes, then what is worth least for its bytes until the rest fits.

Worth is the seconds it would take to have a thing again for each byte it takes, divided by the time that it
was not used. An unpacked layer is worth little, since its blob can be unpacked again: it goes first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from minibuild_store.digest import Digest
from minibuild_store.errors import StoreBusy, StoreFull
from minibuild_store.files import Remove, remove_tree
from minibuild_store.gc import GcReport, Roots
from minibuild_store.records import record_path
from minibuild_store.store import Store

from minibuild.cache.inventory import UNPACK_RATE, Inventory, Thing
from minibuild.cache.journal import KEPT
from minibuild.cache.parts import listings_of
from minibuild.cache.steps import Eviction, Evictor, StepCache
from minibuild.layers.form import base_of
from minibuild.values import dataclass, field

_WEEK_NS = 7 * 86_400 * 10**9
_ANY_STEP = 0.5  # seconds that a miss costs whatever the step does; without it, trifles are lost for nothing
_ONE_BUILD = 60.0  # seconds
_MEMO_NS = 30 * 86_400 * 10**9  # notes on a folder that no build names stay this long
_OTHER_SNAPSHOT_NS = _WEEK_NS
MOST_EVICTIONS = 2000
"""How many evicted steps are remembered, the last ones, and no longer than `_EVICTION_NS`."""
_EVICTION_NS = 90 * 86_400 * 10**9


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


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do: the plan, and the store's own report."""

    plan: Plan
    report: GcReport
    mounts: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return self.report.bytes + sum(t.unpacked for t in self.plan.things if t.folder in self.mounts)


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


def collect(
    store: Store,
    policy: Policy,
    *,
    dry_run: bool = False,
    remove: Remove = remove_tree,
    timeout: float | None = None,
    now_ns: int | None = None,
) -> Collected:
    """Sweep `store` and evict by `policy`. Builds go on meanwhile, and lose nothing that they use.

    `remove` deletes folders whose files may belong to subordinate users. Raises `StoreBusy` where another
    collection runs for longer than `timeout` seconds.
    """
    plan = Plan()

    def roots() -> Roots:
        nonlocal plan
        now = time.time_ns() if now_ns is None else now_ns
        inventory = Inventory(store)
        plan = plan_for(inventory, policy, now)
        kept = _Kept(store, inventory, plan, policy, now).roots()
        if not dry_run:
            _note(store, plan, now)
        return kept

    report = store.gc(roots, dry_run=dry_run, remove=remove, timeout=timeout)
    if not dry_run:
        _unnote(store, plan, report)
    mounts = tuple(thing.folder for thing in plan.things if thing.kind == "mount")
    if not dry_run:
        mounts = tuple(folder for folder in mounts if remove_mount(store, folder, remove))
    return Collected(plan, report, mounts)


def _note(store: Store, plan: Plan, now_ns: int) -> None:
    """Remember what takes each step, before it is taken: who misses it then can say why."""
    cache = StepCache(store)
    with suppress(StoreFull):  # to make room comes first
        for key in list(plan.steps)[-MOST_EVICTIONS:]:
            known = cache.eviction(key) if plan.steps[key] == "damage" else None
            if known is None:  # what `cache verify` has said of a damaged one stays
                cache.evict(key, Eviction(plan.steps[key], now_ns / 1e9))


def _unnote(store: Store, plan: Plan, report: GcReport) -> None:
    """Forget it of steps that a build has used meanwhile, which stay for that."""
    taken = {item.name for item in report.removed if item.kind == "record"}
    cache = StepCache(store)
    for key in plan.steps:
        if record_path("steps", key) not in taken and cache.get(key) is not None:
            cache.spared(key)


def remove_mount(store: Store, folder: str, remove: Remove) -> bool:
    """Delete a cache mount unless a step uses it."""
    path = store.caches / folder
    try:
        with store.lock(f"cache {path}", timeout=0):
            remove(path)
    except (StoreBusy, OSError):
        return False
    store.records("packed-mounts").delete(folder)
    if folder.partition("-")[0] == folder:
        store.records("mounts").delete(folder)
    return True


class _Kept:
    """What stays, kind by kind, once the plan is carried out."""

    def __init__(self, store: Store, inventory: Inventory, plan: Plan, policy: Policy, now_ns: int) -> None:
        self._store = store
        self._inventory = inventory
        self._now = now_ns
        doomed = {id(thing) for thing in plan.things}
        self._things = [thing for thing in inventory.things if id(thing) not in doomed]
        self._folded = {Digest(thing.diff_id).hex for thing in plan.unpacked if thing.diff_id}
        if policy.tagged:
            forgotten = (key for thing in self._things if thing.kept != "pin" for key in thing.steps)
            plan.steps.update(dict.fromkeys(forgotten, "prune"))
        origins = frozenset(store.records("origins").names())
        self._steps = {
            key: record
            for key, (record, _) in inventory.steps.items()
            if key not in plan.steps
            and (
                record.layer.descriptor.digest in inventory.blobs or record.layer.descriptor.digest in origins
            )
        }
        lost = (key for key in inventory.steps if key not in self._steps)
        plan.steps = {**dict.fromkeys(lost, "damage"), **plan.steps}

    def roots(self) -> Roots:
        blobs = {thing.digest for thing in self._things if thing.digest is not None}
        diff_ids = {str(thing.diff_id) for thing in self._things if thing.diff_id}
        diff_ids |= {str(record.layer.diff_id) for record in self._steps.values()}
        diff_ids |= {diff_id for root in self._inventory.roots for diff_id in root.diff_ids}
        records = self._records(blobs, diff_ids)
        return Roots(blobs, self._snapshots(diff_ids), records)

    def _snapshots(self, diff_ids: set[str]) -> set[str]:
        layers = {Digest(diff_id).hex for diff_id in diff_ids} - self._folded
        others = {thing.folder for thing in self._things if thing.kind == "git"}
        for name in self._store.snapshots.names():
            if base_of(name) in layers:
                others.add(name)
                continue
            if len(base_of(name)) == 64 or name.startswith("git-"):
                continue
            # folders that are no layer (see `engine.repair`) are small, and made again when they are missed
            folder = self._store.snapshots.path(name)
            if folder is not None and self._now - os.stat(folder).st_mtime_ns < _OTHER_SNAPSHOT_NS:
                others.add(name)
        return layers | others

    def _records(self, blobs: set[Digest], diff_ids: set[str]) -> Mapping[str, Iterable[str]]:
        builds = self._builds()
        places = self._places({build["id"] for build in builds})
        parts = {step["key"] for build in builds for step in build["steps"]} | set(self._steps)
        roots = {_root_name(place.split("\n")[0]) for place in places}
        selections, listings = self._selections(roots, diff_ids)
        listings |= self._listings_of(parts)
        digests = {str(record.layer.descriptor.digest) for record in self._steps.values()}
        return {
            "steps": self._steps,
            "parts": parts,
            "builds": [build["id"] for build in builds],
            "places": places,
            "indexes": diff_ids,
            "contents": diff_ids,
            "traits": diff_ids,
            "partial-layers": (),
            "selections": selections,
            "listings": listings,
            "files": roots | self._recent("files", _MEMO_NS),
            "checks": self._recent("checks", _MEMO_NS),
            "trials": self._recent("trials", _MEMO_NS),
            "evictions": self._evictions(),
            "origins": digests | {str(d) for root in self._inventory.roots for d in root.layers},
            "packed-mounts": os.listdir(self._store.caches),
            "urls": self._pointing("urls", blobs),
            "variants": self._pointing("variants", blobs),
        }

    def _builds(self) -> list[dict[str, Any]]:
        records = self._store.records("builds")
        found = [json.loads(data) for name in records.names() if (data := records.get(name)) is not None]
        return sorted(found, key=lambda build: float(build["started"]), reverse=True)[:KEPT]

    def _places(self, builds: set[object]) -> set[str]:
        records = self._store.records("places")
        kept = set()
        for name in records.names():
            folder = name.split("\n")[0]
            if (records.get(name) or b"").decode() in builds and (not folder or Path(folder).is_dir()):
                kept.add(name)
        return kept

    def _selections(self, roots: set[str], diff_ids: set[str]) -> tuple[set[str], set[str]]:
        """The notes on what patterns select that may be of use again, and the listings they lead to."""
        records = self._store.records("selections")
        kept, listings = set(), set()
        recent = self._recent("selections", _MEMO_NS)
        for name in records.names():
            data = records.get(name) or b""
            if name.startswith("tree-"):
                content, _, top = data.decode("utf-8", "replace").partition(" ")
                stays = not top or top in diff_ids
            else:
                content = data[16:].decode("utf-8", "replace")
                stays = name.partition("-")[0] in roots or name in recent
            if stays:
                kept.add(name)
                listings.add(content)
        return kept, listings

    def _listings_of(self, keys: Iterable[str]) -> set[str]:
        """The listings that a miss may be explained with."""
        records = self._store.records("parts")
        found: set[str] = set()
        for key in keys:
            data = records.get(key)
            found.update(listings_of(json.loads(data) if data else {}))
        return found

    def _evictions(self) -> list[str]:
        found = sorted(self._store.records("evictions").entries(), key=lambda entry: entry.used_ns)
        recent = [entry.name for entry in found if self._now - entry.used_ns < _EVICTION_NS]
        return recent[-MOST_EVICTIONS:]

    def _pointing(self, kind: str, blobs: set[Digest]) -> set[str]:
        records = self._store.records(kind)
        kept = set()
        for name in records.names():
            text = (records.get(name) or b"").decode("utf-8", "replace")
            digest = json.loads(text).get("digest") if text.startswith("{") else text.partition(" ")[0]
            if digest in blobs:
                kept.add(name)
        return kept

    def _recent(self, kind: str, age_ns: int) -> set[str]:
        entries = self._store.records(kind).entries()
        return {entry.name for entry in entries if self._now - entry.used_ns < age_ns}


def _root_name(folder: str) -> str:
    """How the tables of a context folder are named (`context.digests.FileDigests`)."""
    import hashlib

    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
