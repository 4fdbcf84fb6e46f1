"""The contents of files in layers: their digests by position, and their bytes on the way into a new layer."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from types import TracebackType
from typing import BinaryIO

from minibuild_store.store import Store

from minibuild.context.placed import Placed
from minibuild.context.treeview import content_place
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.layerforms import Layers
from minibuild.engine.layersums import LayerSums
from minibuild.engine.waiting import Waiting
from minibuild.layers.scan import bodies, hashed
from minibuild.layers.tarblocks import Body
from minibuild.layers.writer import LayerWriter

_LITTLE = 1 << 16  # bytes of a file that is held for the moment

Wanted = Mapping[int, bytearray]
"""By the numbers of layers: 0 for a position that is not wanted, 2 for one that is wanted more than once."""


class Sums:
    """The SHA-256 of files by what a tree of `filesystem` calls them."""

    def __init__(self, store: Store, layers: Layers, filesystem: Filesystem, wanted: Wanted) -> None:
        """Those that are `wanted` and were never noted are read."""
        self._sums: dict[int, LayerSums] = {}
        missing: dict[int, bytearray] = {}
        for number, counts in wanted.items():
            known = LayerSums.kept(store, filesystem.layers[number].diff_id, len(counts))
            self._sums[number] = known
            lacking = known.lacking(counts)
            if lacking:
                missing[number] = lacking
        layers.fetch([filesystem.layers[number] for number in missing])
        for number, lacking in missing.items():
            layer, known = filesystem.layers[number], self._sums[number]
            with layers.reading(layer) as blob:
                for position, digest in hashed(blob, layer.descriptor.media_type, lacking):
                    known.note(position, digest)
            known.keep(store, layer.diff_id)

    def of(self, where: bytes) -> str:
        """In hex; "" for what is no file."""
        if not where:
            return ""
        layer, position = content_place(where)
        digest = self._sums[layer].of(position)
        assert digest, "it was not wanted"  # a key must never be made of what is not known
        return digest


class FromBlobs:
    """Files of the layers of `filesystem` on their way into a new layer; see `Writing`.

    The layer that most of them are in is read while the new one is written. What comes before it is asked
    for waits in a file, and so do those of the other layers: usually nothing, as layers are in the order of
    paths.
    """

    def __init__(
        self, store: Store, layers: Layers, filesystem: Filesystem, wanted: Callable[[], Wanted]
    ) -> None:
        """`wanted` is asked once the context is entered."""
        self._layers = layers
        self._filesystem = filesystem
        self._ask = wanted
        self._wanted: Wanted = {}
        self._stack = ExitStack()
        self._coming: Iterator[tuple[int, Body]] = iter(())
        self._waiting = Waiting(store, self._stack)
        self._places: dict[int, array[int]] = {}  # 0 for what does not wait, else one more

    def __enter__(self) -> FromBlobs:
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _begin(self) -> None:
        self._wanted = self._ask()
        self._layers.fetch([self._filesystem.layers[number] for number in self._wanted])
        largest = max(self._wanted, key=lambda number: len(self._wanted[number]), default=None)
        for number, counts in self._wanted.items():
            self._places[number] = array("Q", bytes(8 * len(counts)))
            if number != largest:
                with self._layers.reading(self._filesystem.layers[number]) as blob:
                    for position, body in self._bodies(number, blob):
                        self._keep(number, position, body)
        if largest is not None:
            # left with the context: only then is it known that all that was read is what it should be
            blob = self._stack.enter_context(self._layers.reading(self._filesystem.layers[largest]))
            self._coming = self._stack.enter_context(closing(self._bodies(largest, blob)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _bodies(self, number: int, blob: BinaryIO) -> Generator[tuple[int, Body], None, None]:
        return bodies(blob, self._filesystem.layers[number].descriptor.media_type, self._wanted[number])

    def write(self, writer: LayerWriter, placed: Placed) -> None:
        """Add the file to the layer."""
        number, position = content_place(placed.where)
        again = self._wanted[number][position] > 1
        if not self._waits(number, position):
            for at, body in self._coming:
                if at == position and not again and body.size <= _LITTLE:
                    writer.add(placed.entry, body.read())
                    return
                self._keep(number, at, body)
                if at == position:
                    break
        place = self._places[number][position] - 1
        self._waiting.write(writer, placed.entry, place, again=again)

    def _waits(self, number: int, position: int) -> bool:
        return bool(self._places[number][position])

    def _keep(self, number: int, position: int, body: Body) -> None:
        self._places[number][position] = self._waiting.keep(body) + 1
