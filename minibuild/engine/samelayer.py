"""A COPY --from that gives a layer which is there already: it is not read and written again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING

from minibuild.context.treeview import content_place
from minibuild.layers.entry import Kind

if TYPE_CHECKING:
    from minibuild.context.placed import Placed
    from minibuild.engine.filesystem import Filesystem, Layer
    from minibuild.engine.layerforms import Layers
    from minibuild.engine.treecontents import Wanted
    from minibuild.layers.index import LayerIndex

_FILE = Kind.FILE  # a member read from its class is slow


def same_layer(
    layers: Layers, filesystem: Filesystem, wanted: Wanted, placed: Callable[[], Iterable[Placed]]
) -> Layer | None:
    """The layer of `filesystem` that `placed` out of it would come to, where it was written by this build.

    The bytes of a layer are a function of its entries, their contents and their order. Raises `LayerLost`
    where the blob is not what it was any more.
    """
    if len(wanted) != 1:
        return None
    [(number, counts)] = wanted.items()
    layer = filesystem.layers[number]
    if not layers.was_written(layer):
        return None
    index = layers.index(layer)
    if len(counts) - counts.count(0) != index.entries.count_of(_FILE):
        return None
    if not _all_of(index, number, placed()):
        return None
    with layers.reading(layer):  # read only where it may have changed since it was written
        return layer


def _all_of(index: LayerIndex, number: int, placed: Iterable[Placed]) -> bool:
    """Whether `placed` is what layer `number` of a tree holds, in its order."""
    for position, (item, entry) in enumerate(zip_longest(placed, index.entries)):
        if item is None or item.entry != entry:
            return False
        if item.entry.kind is _FILE and (not item.where or content_place(item.where) != (number, position)):
            return False
    return True
