"""Which files of two filesystems differ in their bytes though nothing that their indexes say does."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from minibuild.context.rows import Row
from minibuild.context.selection import plain_row, row_of
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerforms import Layers
from minibuild.layers.entry import Kind
from minibuild.layers.spool import Spool
from minibuild.layers.tree import Node, Tree
from minibuild.values import NamedTuple

_AT_ONCE = 200  # rows that are written and read together
_DIGEST = 32
_SLOT_BITS = 32


class Contents(NamedTuple):
    """The contents of the files of two filesystems."""

    layers: Layers
    before: Filesystem
    after: Filesystem

    def trees(self) -> Iterator[Tree]:
        """The tree of the one, then of the other; layers that both have at the bottom are held once."""
        count = 0
        for one, other in zip(self.before.layers, self.after.layers, strict=False):
            if one.diff_id != other.diff_id:
                break
            count += 1
        shared = Tree.of(self.layers.indexes(self.before.layers[:count]))
        for each in (self.before, self.after):
            yield shared.over(*self.layers.indexes(each.layers[count:]))

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


class Two(NamedTuple):
    """The trees of two filesystems."""

    contents: Contents
    was: Tree
    now: Tree

    @classmethod
    def of(cls, contents: Contents) -> Two:
        return cls(contents, *contents.trees())

    def both(self) -> Iterator[tuple[bytes, Node, Node]]:
        """What is at each path that both have."""
        for path, was in self.was.walk():
            now = self.now.get(path)
            if now is not None:
                yield path, was, now


class Sides:
    """What two filesystems have at each path, in the order of a walk; of neither a tree is held any more.

    `scratch` gives an empty file's descriptor.
    """

    def __init__(self, contents: Contents, scratch: Callable[[], int]) -> None:
        self._rows: list[Spool] = []
        trees = contents.trees()
        for _ in range(2):
            self._rows.append(_walked(next(trees), scratch))

    def __iter__(self) -> Iterator[tuple[bytes, Node | None, Node | None]]:
        """Path, what was there, what is there now."""
        was, now = (_nodes(spool) for spool in self._rows)
        before, after = next(was, None), next(now, None)
        while before is not None or after is not None:
            if after is None or (before is not None and before[0] < after[0]):
                assert before is not None
                yield before[1], before[2], None
                before = next(was, None)
            elif before is None or after[0] < before[0]:
                yield after[1], None, after[2]
                after = next(now, None)
            else:
                yield before[1], before[2], after[2]
                before, after = next(was, None), next(now, None)


def _walked(tree: Tree, scratch: Callable[[], int]) -> Spool:
    spool = Spool(scratch)
    walk = tree.walk()
    while some := [
        (path, plain_row(Row(node.entry, b"")), node.layer, node.position)
        for path, node in islice(walk, _AT_ONCE)
    ]:
        spool.put(some)
    return spool


def _nodes(spool: Spool) -> Iterator[tuple[bytes, bytes, Node]]:
    """What a path is sorted by, the path, what is there."""
    for some in spool.values(0, spool.end):
        for path, row, layer, position in some:
            yield path.replace(b"/", b"\0"), path, Node(row_of(row).entry, layer, position)


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
