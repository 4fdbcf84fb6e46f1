"""The step cache: what a key led to, and why a key was not found.

Two kinds of records. *steps*: key to layer. *places*: for a position in a Dockerfile (file, stage,
number of the step) the key and parts it had last, so that a miss can name what changed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.context.digests import read_listing
from minibuild.engine.filesystem import Layer
from minibuild.oci.descriptor import Descriptor
from minibuild.values import dataclass

# The order in which changed parts are named: what the user wrote before what follows from it.
_SHOWN_FIRST = ("kind", "command", "workdir", "user")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step that was executed: its layer, when (seconds since the epoch) and how long it took."""

    layer: Layer
    created: float
    seconds: float


class StepCache:
    def __init__(self, store: Store) -> None:
        self._steps = store.records("steps")
        self._places = store.records("places")
        self._listings = store.records("listings")

    def get(self, key: str) -> StepRecord | None:
        data = self._steps.get(key)
        if data is None:
            return None
        try:
            document = json.loads(data)
            descriptor = Descriptor(document["type"], Digest.parse(document["digest"]), document["size"])
            layer = Layer(Digest.parse(document["diff_id"]), descriptor)
            return StepRecord(layer, document["created"], document["seconds"])
        except (ValueError, KeyError, TypeError):
            return None  # another version's record

    def put(self, key: str, record: StepRecord) -> None:
        document = {
            "diff_id": record.layer.diff_id,
            "type": record.layer.descriptor.media_type,
            "digest": record.layer.descriptor.digest,
            "size": record.layer.descriptor.size,
            "created": record.created,
            "seconds": record.seconds,
        }
        self._steps.put(key, json.dumps(document, separators=(",", ":")).encode())

    def touch(self, key: str) -> None:
        self._steps.touch(key)

    def remember(self, place: str, key: str, parts: Mapping[str, str]) -> None:
        """Note what the step at `place` was this time."""
        document = json.dumps({"key": key, "parts": dict(parts), "time": time.time()}).encode()
        self._places.put(place, document)

    def reason(self, place: str, key: str, parts: Mapping[str, str], *, parent_changed: bool) -> str:
        """Why the step at `place` has no record under `key`, in one line."""
        data = self._places.get(place)
        try:
            before = json.loads(data) if data else None
        except ValueError:
            before = None
        if before is None:
            return "never built here"
        if before["key"] == key:
            return "its result is no longer in the cache"
        old: dict[str, str] = before["parts"]
        changed = [
            name for name in (*_SHOWN_FIRST, *sorted({*old, *parts})) if old.get(name) != parts.get(name)
        ]
        own = [name for name in changed if name != "parent"]
        if not own:
            return "a step before it changed" if parent_changed else "what it builds on changed"
        return self._explain(own[0], old, parts)

    def _explain(self, name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
        if name.startswith("source ") and not name.endswith(" name") and name in old and name in new:
            return self._files_changed(old[name], new[name])
        if name == "command" or name == "kind":
            return "the instruction changed"
        before, after = old.get(name), new.get(name)
        label = name.removeprefix("env ") if name.startswith("env ") else name
        if before is None:
            return f"{label} was added" if not name.startswith("source") else "a source was added"
        if after is None:
            return f"{label} was removed" if not name.startswith("source") else "a source was removed"
        if max(len(before), len(after)) > 60:
            return f"{label} changed"
        return f"{label} changed: {before or '(empty)'} → {after or '(empty)'}"

    def _files_changed(self, before: str, after: str) -> str:
        old, new = self._listing(before), self._listing(after)
        if old is None or new is None:
            return "the files it copies changed"
        for verb, names in (
            ("changed", sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
            ("is new", sorted(new.keys() - old.keys())),
            ("is gone", sorted(old.keys() - new.keys())),
        ):
            if names:
                more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                return f"{os.fsdecode(names[0]) or 'the folder itself'} {verb}{more}"
        return "the files it copies changed"

    def _listing(self, content: str) -> dict[bytes, bytes] | None:
        data = self._listings.get(content)
        return None if data is None else read_listing(data)
