"""The step cache: what a key led to, and of what parts a key was made.

Three kinds of records. *steps*: key to layer, dropped when the layer is evicted. *parts*: key to the named
parts it is a digest of, kept while a build record names the key, so that a later miss can be explained.
*evictions*: key to when and why its step was dropped, until it is built again; `cache.kept` bounds them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.values import NamedTuple


class StepRecord(NamedTuple):
    """A step that was executed: its layer, when (seconds since the epoch) and how long it took.

    `name` is what progress showed. `stamp` is the blob's modification time in nanoseconds when it was known
    to be whole, 0 where nobody looked: a blob with another one has been written to by somebody.
    """

    layer: Layer
    created: float
    seconds: float
    name: str = ""
    stamp: int = 0


Evictor = Literal["cap", "prune", "max-age", "verify", "damage"]


class Eviction(NamedTuple):
    """That a step's result was taken away: by what, and when in seconds since the epoch."""

    by: Evictor
    when: float


class StepCache:
    """The records of one store."""

    def __init__(self, store: Store) -> None:
        self._steps = store.records("steps")
        self._parts = store.records("parts")
        self._evictions = store.records("evictions")

    @property
    def fresh(self) -> bool:
        """Whether no step was ever recorded here."""
        return not self._steps.used()

    def get(self, key: str) -> StepRecord | None:
        data = self._steps.get(key)
        return None if data is None else read_step(data)

    def put(self, key: str, record: StepRecord) -> None:
        self._steps.put(key, write_step(record))
        self._evictions.delete(key)

    def touch(self, key: str) -> None:
        """Note that the step was used now; eviction asks."""
        self._steps.touch(key)

    def delete(self, key: str) -> None:
        self._steps.delete(key)

    def evict(self, key: str, eviction: Eviction) -> None:
        """Remember that the step was taken away; its record may still be there, without a layer."""
        self._evictions.put(key, json.dumps(eviction._asdict(), separators=(",", ":")).encode())

    def eviction(self, key: str) -> Eviction | None:
        """What took the step away; None where nothing did, it was built since, or it is long ago."""
        data = self._evictions.get(key)
        try:
            return None if data is None else Eviction(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def spared(self, key: str) -> None:
        """Take `evict` back."""
        self._evictions.delete(key)

    def put_parts(self, key: str, parts: Mapping[str, str]) -> None:
        self._parts.put(key, json.dumps(dict(parts), separators=(",", ":")).encode())

    def parts(self, key: str) -> dict[str, str] | None:
        """The parts of `key`; None where nobody noted them."""
        data = self._parts.get(key)
        if data is None:
            return None
        try:
            document: dict[str, str] = json.loads(data)
        except ValueError:
            return None
        return document


def write_step(record: StepRecord) -> bytes:
    layer = record.layer
    document = {
        "diff_id": layer.diff_id,
        "type": layer.descriptor.media_type,
        "digest": layer.descriptor.digest,
        "size": layer.descriptor.size,
        "created": record.created,
        "seconds": record.seconds,
        "name": record.name,
        "stamp": record.stamp,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def read_step(data: bytes) -> StepRecord | None:
    """The record in `data`; None for what another version wrote."""
    try:
        document = json.loads(data)
        descriptor = Descriptor(document["type"], Digest.parse(document["digest"]), document["size"])
        return StepRecord(
            Layer(Digest.parse(document["diff_id"]), descriptor),
            document["created"],
            document["seconds"],
            document.get("name", ""),
            document.get("stamp", 0),
        )
    except (ValueError, KeyError, TypeError):
        return None
