"""What stays, kind by kind, once what a plan takes is gone: the roots of the store's collection."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minibuild_store.digest import Digest
from minibuild_store.gc import Roots
from minibuild_store.store import Store

from minibuild.cache.eviction import Plan, Policy
from minibuild.cache.inventory import Inventory
from minibuild.cache.journal import KEPT
from minibuild.cache.parts import listings_of
from minibuild.layers.form import base_of

_MEMO_NS = 30 * 86_400 * 10**9  # notes on a folder that no build names stay this long
_OTHER_SNAPSHOT_NS = 7 * 86_400 * 10**9
MOST_EVICTIONS = 2000
"""How many evicted steps are remembered, the last ones, and no longer than `_EVICTION_NS`."""
_EVICTION_NS = 90 * 86_400 * 10**9


class Kept:
    """Adds to `plan.steps` those that go too: by `Policy.tagged`, or because their layer is lost."""

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

    def _unpacked(self) -> set[str]:
        """The diff IDs of all that is unpacked: running builds may keep it, and have to know its traits."""
        return {f"sha256:{base_of(name)}" for name in self._store.snapshots.names()}

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
            "sums": diff_ids,
            "traits": diff_ids | self._unpacked() | self._recent("traits", _MEMO_NS),
            "partial-layers": (),
            "selections": selections,
            "listings": listings,
            "files": roots | self._recent("files", _MEMO_NS),
            "checks": self._recent("checks", _MEMO_NS),
            "trials": self._recent("trials", _MEMO_NS),
            "evictions": self._evictions(),
            "failures": (),  # left by builds that were killed while they waited
            "origins": digests | {str(d) for root in self._inventory.roots for d in root.layers},
            "linked": blobs,
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
