"""The step cache: what a key led to, and of what parts a key was made.

Two kinds of records. *steps*: key to layer, dropped when the layer is evicted. *parts*: key to the named
parts it is a digest of, kept while a build record names the key, so that a later miss can be explained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer


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


class StepCache:
    """The records of one store."""

    def __init__(self, store: Store) -> None:
        self._steps = store.records("steps")
        self._parts = store.records("parts")

    def get(self, key: str) -> StepRecord | None:
        data = self._steps.get(key)
        return None if data is None else read_step(data)

    def put(self, key: str, record: StepRecord) -> None:
        self._steps.put(key, write_step(record))

    def touch(self, key: str) -> None:
        """Note that the step was used now; eviction asks."""
        self._steps.touch(key)

    def delete(self, key: str) -> None:
        self._steps.delete(key)

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
