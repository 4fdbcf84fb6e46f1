"""Which files of two filesystems differ in their bytes though nothing that their indexes say does."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerforms import Layers
from minibuild.layers.entry import Kind
from minibuild.layers.tree import Node, Tree
from minibuild.values import NamedTuple

_DIGEST = 32
_SLOT_BITS = 32


class Two(NamedTuple):
    """Two filesystems and their trees."""

    layers: Layers
    before: Filesystem
    after: Filesystem
    was: Tree
    now: Tree

    @classmethod
    def of(cls, layers: Layers, before: Filesystem, after: Filesystem) -> Two:
        """The layers below that they have in common are held once."""
        count = 0
        for one, other in zip(before.layers, after.layers, strict=False):
            if one.diff_id != other.diff_id:
                break
            count += 1
        shared = Tree.of(layers.indexes(before.layers[:count]))
        was, now = (shared.over(*layers.indexes(each.layers[count:])) for each in (before, after))
        return cls(layers, before, after, was, now)

    def both(self) -> Iterator[tuple[bytes, Node, Node]]:
        """What is at each path that both have."""
        for path, was in self.was.walk():
            now = self.now.get(path)
            if now is not None:
                yield path, was, now

    def unsure(self, was: Node, now: Node) -> bool:
        """Whether only reading both files tells if they are equal."""
        if not (was.entry.kind is now.entry.kind is Kind.FILE and was.entry.size == now.entry.size):
            return False
        return self.before.layers[was.layer].diff_id != self.after.layers[now.layer].diff_id

    def rewritten(self, pairs: Iterable[tuple[bytes, Node, Node]]) -> set[bytes]:
        """The paths of `pairs` whose contents differ; each is a file on both sides.

        Each layer is read once; 60 bytes are held for a pair.
        """
        paths: list[bytes] = []
        wanted: dict[Layer, array[int]] = {}
        for slot, (path, was, now) in enumerate(pairs):
            paths.append(path)
            for layer, node in ((self.before.layers[was.layer], was), (self.after.layers[now.layer], now)):
                wanted.setdefault(layer, array("Q")).append(node.position << _SLOT_BITS | slot)
        digests = bytearray(_DIGEST * len(paths))
        seen = bytearray(len(paths))
        found = set()
        for layer, places in wanted.items():
            for slot, digest in _digests(self.layers, layer, sorted(places)):
                start = slot * _DIGEST
                if not seen[slot]:
                    digests[start : start + _DIGEST] = digest
                    seen[slot] = 1
                elif digests[start : start + _DIGEST] != digest:
                    found.add(paths[slot])
        return found


def _digests(layers: Layers, layer: Layer, places: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(slot, SHA-256) of the files at `places`: position and slot, sorted."""
    from minibuild.layers.scan import hashed

    rest = iter(places)
    place = next(rest)
    wanted = bytearray((places[-1] >> _SLOT_BITS) + 1)
    for each in places:
        wanted[each >> _SLOT_BITS] = 1
    with layers.reading(layer) as blob:
        for position, digest in hashed(blob, layer.descriptor.media_type, wanted):
            while place >> _SLOT_BITS == position:
                yield place & ((1 << _SLOT_BITS) - 1), digest
                place = next(rest, -1)
