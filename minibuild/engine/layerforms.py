"""The three forms a layer can take: blob, index, snapshot.

Each form is made when a step first needs it and kept in the store. A blob that is still in a
registry is pulled; an index is read off the blob in one pass; a snapshot is unpacked by the sandbox.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerblobs import LayerBlobs
from minibuild.errors import LayerError
from minibuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from minibuild.context.placed import Placed
    from minibuild.engine.fetched import Fetched
    from minibuild.layers.form import Form
    from minibuild.layers.index import LayerIndex
    from minibuild.layers.lazytree import OpenLayer
    from minibuild.layers.merged import Merged
    from minibuild.layers.tree import Tree
    from minibuild.plan.steps import GitItem, UrlItem
    from minibuild.registry.client import Registry
    from minibuild.registry.parallel import Job
    from minibuild.sandbox.client import Sandbox

T = TypeVar("T")
_AT_ONCE = 4
# An overlay takes 500 folders, and each layer of another builder may need a second one (`repair`).
_MOST = 240
_STEP = 120


class StandIns(Protocol):
    """What a build that is only thought through has in place of writing layers and fetching files."""

    def layer(self, placed: Sequence[Placed]) -> Layer:
        """The layer that `placed` would be."""

    def fetched(self, item: UrlItem | GitItem) -> Fetched:
        """What `item` would be."""


class Layers(LayerBlobs):
    """Gives the forms of layers; `sandbox` is called only when something must be unpacked."""

    def __init__(
        self,
        store: Store,
        *,
        registry: Callable[[], Registry],
        sandbox: Callable[[], Sandbox],
        pulled: Callable[[Descriptor, int], None],
        lease: Callable[..., None] = lambda *names: None,
    ) -> None:
        super().__init__(store, registry=registry, pulled=pulled, lease=lease)
        self._sandbox = sandbox
        self.notes: dict[str, str] = {}
        """The content digests of the selections of this build, by name: part of what a shared cache holds."""
        self.shared_note: Callable[[str], str | None] = lambda name: None
        self.stand_ins: StandIns | None = None
        self.as_step: Callable[[Callable[[], Path]], Callable[[], Path]] = lambda call: call
        """Makes a call on another thread part of the step that this one works on."""
        self._written: set[Layer] = set()
        self._trees: dict[str, Tree] = {}
        self._open: dict[Digest, OpenLayer] = {}  # those that are in no tree yet
        self._mutex = threading.Lock()
        self._traits = store.records("traits")

    def index(self, layer: Layer) -> LayerIndex:
        """Names and metadata of everything in the layer."""
        return self._known_index(layer) or self._read_index(layer)

    def indexes(self, layers: Sequence[Layer]) -> list[LayerIndex]:
        """Those of several layers; what has to be fetched for it is fetched side by side.

        They are read one by one: in threads of their own they take half as much memory again.
        """
        known = [self._known_index(layer) for layer in layers]
        self.fetch([layer for layer, index in zip(layers, known, strict=True) if index is None])
        return [index or self._read_index(layer) for layer, index in zip(layers, known, strict=True)]

    def fetch(self, layers: Sequence[Layer]) -> None:
        """Bring the blobs here that are not, side by side."""
        blobs = self._store.blobs
        missing = {layer.descriptor.digest: layer.descriptor for layer in layers}
        jobs = {
            number: self.as_step(partial(self.path, one))
            for number, one in enumerate(missing.values())
            if not blobs.has(one.digest, one.size)
        }
        if jobs:
            from minibuild_store import turns

            with turns.waiting():
                in_parallel(jobs)

    def fetch_names(self, filesystem: Filesystem) -> None:
        """Bring the blobs here without which the names in some layer are not known, side by side."""
        layers, seen = filesystem.layers, filesystem.seen
        self.fetch([layer for layer in layers[seen.fetched :] if not self.at_hand(layer)])
        seen.fetched = len(layers)

    def _known_index(self, layer: Layer) -> LayerIndex | None:
        """The index, where it was made before."""
        from minibuild.layers.index import LayerIndex

        with self._mutex:
            opened = self._open.get(layer.diff_id)
        if opened is not None:
            return opened.index
        data = self._indexes.get(layer.diff_id)
        if data is not None:
            try:
                return LayerIndex.load(data)
            except LayerError:
                pass  # written by another version: read it off the blob again
        return None

    def _read_index(self, layer: Layer) -> LayerIndex:
        from minibuild_store import turns

        from minibuild.layers.scan import index_blob

        with turns.alone(self._store, f"index {layer.diff_id}"):
            known = self._known_index(layer)  # whoever held the lock before us may have read it
            if known is not None:
                return known
            with self.reading(layer) as blob, self.working():
                index = index_blob(blob, layer.descriptor.media_type, layer.diff_id)
            self._indexes.put(layer.diff_id, index.dump())
        return index

    def note_written(self, layer: Layer) -> None:
        """Remember that the layer was written here, as all layers are that steps write."""
        with self._mutex:
            self._written.add(layer)

    def was_written(self, layer: Layer) -> bool:
        with self._mutex:
            return layer in self._written

    def keep_index(self, diff_id: Digest, packed: bytes | bytearray) -> None:
        if self._indexes.get(diff_id) != packed:  # many steps leave the same layer: none
            self._indexes.put(diff_id, packed)

    def tree(self, filesystem: Filesystem) -> Tree:
        """The merged view of all layers, each of which is read."""
        tree, count = self._known_tree(filesystem)
        if not count:
            tree, count = self._merged_before(filesystem)
        added = filesystem.layers[count:]
        if added:
            indexes = self.indexes(added)
            self._close(added)  # no second table of their paths beside the tree's
            tree = tree.over(*indexes)
            self._close(added)  # another thread may have asked meanwhile
            if not count:  # the others are soon in the place of one another, and live as long as `seen`
                with self._mutex:
                    tree = self._trees.setdefault(filesystem.chain, tree)
        filesystem.seen.known = tree, len(filesystem.layers)
        return tree

    def _close(self, layers: Sequence[Layer]) -> None:
        with self._mutex:
            for layer in layers:
                self._open.pop(layer.diff_id, None)

    def lazy_tree(self, filesystem: Filesystem, *, placing: bool = False) -> Merged:
        """The merged view of all layers, of which those are read that a question needs.

        With `placing` it is asked where a new path would come to lie, which mostly takes all of them.
        """
        tree, count = self._known_tree(filesystem)
        layers = filesystem.layers
        if count == len(layers):
            return tree
        from minibuild.layers.lazytree import LazyTree

        return LazyTree(_Stack(self, filesystem, placing=placing), len(layers), tree, count)

    def opened(self, layer: Layer) -> OpenLayer | None:
        """One layer to look single paths up in, where it was opened before."""
        with self._mutex:
            return self._open.get(layer.diff_id)

    def open(self, layers: Sequence[Layer]) -> OpenLayer:
        """The first of `layers` to look single paths up in; the others are made ready beside it."""
        from minibuild.layers.lazytree import OpenLayer

        found = [OpenLayer(index) for index in self.indexes(layers)]
        with self._mutex:
            self._open.update({layer.diff_id: opened for layer, opened in zip(layers, found, strict=True)})
        return found[0]

    def at_hand(self, layer: Layer) -> bool:
        """Whether nothing has to be fetched for its index."""
        blob = layer.descriptor
        with self._mutex:
            if layer.diff_id in self._open:
                return True
        return self._store.blobs.has(blob.digest, blob.size) or self._indexes.get(layer.diff_id) is not None

    def _known_tree(self, filesystem: Filesystem) -> tuple[Tree, int]:
        """The tree of as many of the lowest layers as were merged before, and how many they are."""
        known = filesystem.seen.known
        if known is None:
            known = filesystem.seen.known = self._merged_before(filesystem)
        return known

    def _merged_before(self, filesystem: Filesystem) -> tuple[Tree, int]:
        """The same, found by going through all layers."""
        from minibuild.layers.tree import Tree

        below = Filesystem()
        found = Tree(), 0
        with self._mutex:
            for count, layer in enumerate(filesystem.layers, 1):
                below = below.extended(layer)
                tree = self._trees.get(below.chain)
                if tree is not None:
                    found = tree, count
        return found

    def snapshots(self, filesystem: Filesystem) -> tuple[Path, ...]:
        """The layers unpacked, lowest first; missing ones are pulled and unpacked side by side.

        Of more layers than an overlay may have the lowest are one folder; the layers stay as they are.
        A layer that comes more than once counts where it comes last: there it hides what the same
        layer did further down, and overlay takes no folder twice (ELOOP).
        """
        form = self._sandbox().form
        self._lease(*(form.name(layer.diff_id.hex) for layer in filesystem.layers))
        lowest = _flattened(len(filesystem.layers))
        layers = filesystem.layers[lowest:]
        last = {layer.diff_id: number for number, layer in enumerate(layers)}
        from minibuild.engine.repair import HIDES_ALL, LEAVES_PARENTS_OUT

        folders = {diff_id: self._unpacked(form, diff_id) for diff_id in last}
        jobs = {
            number: self._unpacker(layers[number])
            for diff_id, number in last.items()
            if folders[diff_id] is None
        }
        made = in_parallel(jobs)
        found = [self._flat(_first(lowest, filesystem))] if lowest else []
        for number, layer in enumerate(layers):
            if last[layer.diff_id] != number:
                continue
            trait = self._traits.get(layer.diff_id)
            if trait == HIDES_ALL:
                found.clear()
            found.append(folders[layer.diff_id] or made[number])
            if trait == LEAVES_PARENTS_OUT:
                found.extend(self._parents(_first(lowest + number + 1, filesystem)))
        return tuple(found)

    def _parents(self, filesystem: Filesystem) -> list[Path]:
        """What has to lie above a layer that leaves parent folders out."""
        from minibuild.engine.repair import parents_folder

        name = "parents-" + filesystem.chain.partition(":")[2]
        self._lease(self._sandbox().form.name(name))
        folder = parents_folder(name, self.tree(filesystem), store=self._store, sandbox=self._sandbox())
        return [] if folder is None else [folder]

    def _flat(self, filesystem: Filesystem) -> Path:
        """All of `filesystem` in one folder."""
        form = self._sandbox().form
        name = "flat-" + filesystem.chain.partition(":")[2]
        self._lease(form.name(name))
        with self._store.lock(f"snapshot {name}"):
            folder = self._store.snapshots.path(form.name(name))
            if folder is not None:
                return form.root(folder)
            from minibuild.engine.flatten import flat_folder
            from minibuild.layers.merge import MergeLayer

            layers = [
                MergeLayer(index, partial(self.reading, layer), layer.descriptor.media_type)
                for layer, index in zip(filesystem.layers, self.indexes(filesystem.layers), strict=True)
            ]
            sandbox = self._sandbox()
            with self.working():
                return flat_folder(name, layers, store=self._store, sandbox=sandbox)

    def _unpacker(self, layer: Layer) -> Callable[[], Path]:
        return self.as_step(lambda: self.snapshot(layer))

    def _unpacked(self, form: Form, diff_id: Digest) -> Path | None:
        """The layer's root folder, where it has been unpacked before."""
        folder = self._store.snapshots.path(form.name(diff_id.hex))
        return None if folder is None else form.root(folder)

    def snapshot(self, layer: Layer) -> Path:
        """The layer unpacked as an overlay lower folder."""
        form = self._sandbox().form
        name = form.name(layer.diff_id.hex)
        with self._store.lock(f"snapshot {name}"):
            folder = self._unpacked(form, layer.diff_id)
            if folder is not None:
                return folder
            from minibuild.engine.repair import trait_of
            from minibuild.layers.index import LayerIndex

            blob = self.path(layer.descriptor)
            sandbox = self._sandbox()
            with self._store.snapshots.workspace(remove=sandbox.remove) as work:
                target = work / "layer"
                root = form.make(target)
                try:
                    with self.working():
                        packed = sandbox.unpack(blob, layer.descriptor.media_type, root, layer.diff_id)
                except LayerError as error:
                    raise self._blamed(layer, error) from None
                if self._indexes.get(layer.diff_id) is None:
                    self._indexes.put(layer.diff_id, packed)
                trait = trait_of(LayerIndex.load(packed))
                if trait:
                    self._traits.put(layer.diff_id, trait)
                return form.root(self._store.snapshots.commit(target, name))


class _Stack:
    """A filesystem's layers for a `LazyTree`."""

    def __init__(self, layers: Layers, filesystem: Filesystem, *, placing: bool) -> None:
        self._layers = layers
        self._filesystem = filesystem
        self._placing = placing
        self._fetched = 0

    def open(self, layer: int, *, more: bool) -> OpenLayer:
        """The layer; where those below it are likely to be asked for as well, some are fetched with it.

        They are then as many as were fetched before and did not do, so half of what comes is needed.
        """
        of = self._filesystem.layers
        known = self._layers.opened(of[layer])
        if known is not None:
            return known
        together = [of[layer]]
        if not self._layers.at_hand(of[layer]):
            likely = self._fetched if more or self._placing else 0
            if more:
                likely = max(likely, _AT_ONCE - 1)
            lower = {one.diff_id: one for one in reversed(of[:layer]) if not self._layers.at_hand(one)}
            together += [*lower.values()][:likely]
            self._fetched += len(together)
        return self._layers.open(together)

    def merged(self) -> Tree:
        return self._layers.tree(self._filesystem)


def _flattened(count: int) -> int:
    """How many of `count` layers are to be one folder: a round number, so that many steps share it."""
    return (count - _STEP) // _STEP * _STEP if count > _MOST else 0


def _first(count: int, filesystem: Filesystem) -> Filesystem:
    """The lowest layers of a filesystem."""
    found = Filesystem()
    for layer in filesystem.layers[:count]:
        found = found.extended(layer)
    return found


def in_parallel(work: Mapping[int, Callable[[], T]], *, limit: int = _AT_ONCE) -> dict[int, T]:
    """What each call gives, on up to `limit` threads; raises the first error, which stops the others."""
    if len(work) < 2:
        return {key: call() for key, call in work.items()}
    from minibuild.registry.parallel import run_all

    results: dict[int, T] = {}

    def job(key: int, call: Callable[[], T]) -> Job:
        def run(_: threading.Event) -> None:
            results[key] = call()

        return run

    run_all([job(key, call) for key, call in work.items()], limit)
    return results
