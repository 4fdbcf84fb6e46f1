"""A stack of layers seen from above, of which no more is read than a question needs.

What lies at a path is settled by the topmost layer that holds it, or that hides it from below: by a
whiteout of it or of a folder that it is in, by an opaque folder, or by what is no folder on the way. What a
folder holds is settled only by a layer that hides all that lower ones have there, or by the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from minibuild.layers.entry import Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.merged import Merged, Node
from minibuild.layers.tree import Tree, shape_of

_MANY = 8  # layers that a question may find nothing in before they are merged
_FAR = 32  # layers that an answer may lie below before they are


class OpenLayer:
    """One layer that single paths can be looked up in."""

    __slots__ = ("_hidden", "_links", "_missing", "_opaque", "_table", "index")

    def __init__(self, index: LayerIndex) -> None:
        self.index = index
        self._table, hidden, opaque, missing, self._links = shape_of(index)
        self._hidden, self._opaque, self._missing = frozenset(hidden), frozenset(opaque), frozenset(missing)

    def get(self, path: bytes, layer: int) -> Node | None:
        """What its entries say of `path`; the layer is number `layer`."""
        position = self._position(path)
        return None if position is None else Node(self.index.entries[position], layer, position)

    def kind(self, path: bytes) -> Kind | None:
        """What it has at `path`, be it a folder that it only has something in."""
        if path in self._missing:
            return Kind.DIR
        position = self._position(path)
        return None if position is None else self.index.entries.kind(position)

    def _position(self, path: bytes) -> int | None:
        """Where its entry of `path` is, a hard link's being that of its file."""
        position = self._table.get(path)
        if position is None or self.index.entries.kind(position) is not Kind.HARDLINK:
            return position
        return self._links.file(position)

    def leads_to(self, path: bytes) -> bool:
        """Whether it has something in the folder `path`, and no entry for that."""
        return path in self._missing

    def hides(self, path: bytes) -> bool:
        """Whether what lower layers have at `path` is gone."""
        return bool(path) and (path in self._hidden or self.hides_in(path.rpartition(b"/")[0]))

    def hides_in(self, path: bytes) -> bool:
        """Whether all that lower layers have in the folder `path` is gone."""
        while not self._ends_at(path):
            if not path or path in self._hidden:
                return bool(path)
            path = path.rpartition(b"/")[0]
        return True

    def _ends_at(self, path: bytes) -> bool:
        """Whether its own entry of the folder `path` lets nothing through from below."""
        position = self._table.get(path)
        return path in self._opaque or (
            position is not None and self.index.entries.kind(position) is not Kind.DIR
        )


class Stack(Protocol):
    """Where a `LazyTree` has its layers from; 0 is the lowest."""

    def open(self, layer: int, *, more: bool) -> OpenLayer:
        """The layer; with `more` those below it are asked for next, unless it hides them."""

    def merged(self) -> Tree:
        """All of them."""


class LazyTree(Merged):
    """The same answers as a `Tree` of all layers. `known` is that of the lowest `count`."""

    __slots__ = ("_known", "_partial", "_stack", "_top")

    def __init__(self, stack: Stack, layers: int, known: Tree, count: int) -> None:
        self._stack = stack
        self._top = layers
        self._known = count, known  # one value: other threads may ask meanwhile
        self._partial: tuple[int, Tree] | None = None

    def get(self, path: bytes) -> Node | None:
        if not path:
            return Node.implicit(path)
        implied = False
        for layer in range(self._top - 1, self._known[0] - 1, -1):
            if self._top - layer > _FAR:
                return self._all().get(path)
            opened = self._stack.open(layer, more=False)
            node = opened.get(path, layer)
            if node is not None:
                return _shown(node, path, implied)
            implied = implied or opened.leads_to(path)
            if opened.hides(path):
                return _shown(None, path, implied)
        return _shown(self._beneath().get(path), path, implied)

    def kind(self, path: bytes) -> Kind | None:
        if not path:
            return Kind.DIR
        for layer in range(self._top - 1, self._known[0] - 1, -1):
            if self._top - layer > _FAR:
                return self._all().kind(path)
            opened = self._stack.open(layer, more=False)
            kind = opened.kind(path)
            if kind is not None or opened.hides(path):
                return kind
        return self._beneath().kind(path)

    def paths_in(self, path: bytes) -> list[bytes]:
        return self._with_all_in(path).paths_in(path)

    def below(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        return self._with_all_in(path).below(path)

    def kept(self, layer: int) -> Mapping[bytes, bytes]:
        lowest, known = self._known
        return known.kept(layer) if layer < lowest else self._stack.open(layer, more=False).index.files

    def _beneath(self) -> Tree:
        """The tree to ask once each layer above it was asked; of many such layers it holds them, too."""
        lowest, known = self._known
        return known if self._top - lowest <= _MANY else self._all()

    def _with_all_in(self, folder: bytes) -> Tree:
        """A tree of the layers that anything in `folder` can come from; the others count as empty."""
        lowest, known = self._known
        if lowest == self._top:
            return known
        for layer in range(self._top - 1, lowest - 1, -1):
            if self._stack.open(layer, more=True).hides_in(folder):
                return self._from(layer)
        return self._all()

    def _from(self, lowest: int) -> Tree:
        partial = self._partial
        if partial is None or partial[0] > lowest:
            shown = [self._stack.open(layer, more=False).index for layer in range(lowest, self._top)]
            self._partial = partial = lowest, Tree.of([LayerIndex.of(())] * lowest + shown)
        return partial[1]

    def _all(self) -> Tree:
        tree = self._stack.merged()
        self._known = self._top, tree
        self._partial = None
        return tree


def _shown(node: Node | None, path: bytes, implied: bool) -> Node | None:
    """What shows of `node`, which layers above may only have something in (`implied`)."""
    if implied and (node is None or node.entry.kind is not Kind.DIR):
        return Node.implicit(path)
    return node
