"""What is known of the contents of a layer's files: the SHA-256 of each by its position, kept by diff ID."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.context.placed import Placed
from minibuild.layers.entry import Kind

Known = Callable[[Placed], str | None]
"""The SHA-256 (hex) of a file, None where it is not known."""

_SHA256 = 32
_UNKNOWN = bytes(_SHA256)
_POSITION = "I"
_FILE = Kind.FILE  # a member read from its class is slow


class LayerSums:
    """32 bytes for each position of a layer, zeros where nothing is known.

    The kept form is the positions, rising, then their digests.
    """

    def __init__(self, data: bytes | None = None, count: int = 0) -> None:
        """From the kept form, with room for `count` positions or more."""
        if data is None:
            self._known = bytearray(count * _SHA256)
            return
        many = len(data) // (array(_POSITION).itemsize + _SHA256)
        positions = array(_POSITION, data[: -many * _SHA256])
        self._known = found = bytearray(max(count, positions[-1] + 1) * _SHA256)
        start = len(data) - many * _SHA256
        for place, position in zip(range(start, len(data), _SHA256), positions, strict=True):
            found[position * _SHA256 : (position + 1) * _SHA256] = data[place : place + _SHA256]

    @classmethod
    def kept(cls, store: Store, diff_id: Digest, count: int = 0) -> LayerSums:
        return cls(store.records("sums").get(diff_id), count)

    def keep(self, store: Store, diff_id: Digest) -> None:
        data = self._packed()
        if data:
            store.records("sums").put(diff_id, data)

    def _packed(self) -> bytearray:
        known = self._known
        count = len(known) // _SHA256
        spots = (
            place for place in range(0, len(known), _SHA256) if known[place : place + _SHA256] != _UNKNOWN
        )
        positions = array(_POSITION, (place // _SHA256 for place in spots))
        data = bytearray(positions.tobytes())
        if len(positions) == count:
            data += known
        else:
            for position in positions:
                data += known[position * _SHA256 : (position + 1) * _SHA256]
        return data

    def of(self, position: int) -> str:
        """In hex; "" for what is not known."""
        found = self._known[position * _SHA256 : (position + 1) * _SHA256]
        return "" if found == _UNKNOWN else found.hex()

    def note(self, position: int, digest: bytes) -> None:
        end = (position + 1) * _SHA256
        if len(self._known) < end:
            self._known += bytes(end - len(self._known))
        self._known[end - _SHA256 : end] = digest

    def lacking(self, counts: bytearray) -> bytearray:
        """1 for each position that has a count and is not known, up to the last of them."""
        known = self._known
        lacking = bytearray(len(counts))
        for position, count in enumerate(counts):
            if count and known[position * _SHA256 : (position + 1) * _SHA256] == _UNKNOWN:
                lacking[position] = 1
        return lacking.rstrip(b"\0")

    def passing(self, placed: Iterable[Placed], known: Known) -> Iterator[Placed]:
        """All that is `placed` into the layer; once there, `known` is asked for the contents of files."""
        for position, item in enumerate(placed):
            yield item
            if item.where and item.entry.kind is _FILE:
                digest = known(item)
                if digest:
                    self.note(position, bytes.fromhex(digest))
