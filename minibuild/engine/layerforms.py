"""The three forms a layer can take: blob, index, snapshot.

Each form is made when a step first needs it and kept in the store. A blob that is still in a
registry is pulled; an index is read off the blob in one pass; a snapshot is unpacked by the sandbox.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minibuild_store import stopping
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerblobs import LayerBlobs
from minibuild.errors import LayerError, MinibuildError
from minibuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from minibuild.context.place import Placed
    from minibuild.engine.fetched import Fetched
    from minibuild.layers.form import Form
    from minibuild.layers.index import LayerIndex
    from minibuild.layers.tree import Tree
    from minibuild.plan.steps import GitItem, UrlItem
    from minibuild.registry.client import Registry
    from minibuild.sandbox.client import Sandbox


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
        self._trees: dict[str, Tree] = {}
        self._mutex = threading.Lock()
        self._traits = store.records("traits")

    def index(self, layer: Layer) -> LayerIndex:
        """Names and metadata of everything in the layer."""
        from minibuild.layers.index import LayerIndex

        data = self._indexes.get(layer.diff_id)
        if data is not None:
            try:
                return LayerIndex.load(data)
            except LayerError:
                pass  # written by another version: read it off the blob again
        from minibuild.layers.scan import index_blob

        with self._store.lock(f"index {layer.diff_id}"), self.reading(layer) as blob:
            index = index_blob(blob, layer.descriptor.media_type, layer.diff_id)
        self._indexes.put(layer.diff_id, index.dump())
        return index

    def keep_index(self, diff_id: Digest, packed: bytes | bytearray) -> None:
        if self._indexes.get(diff_id) != packed:  # many steps leave the same layer: none
            self._indexes.put(diff_id, packed)

    def tree(self, filesystem: Filesystem) -> Tree:
        """The merged view of all layers."""
        from minibuild.layers.tree import Tree

        below = Filesystem()
        chains = []
        for layer in filesystem.layers:
            below = below.extended(layer)
            chains.append(below.chain)
        with self._mutex:
            known = [count for count, chain in enumerate(chains, 1) if chain in self._trees]
            start = known[-1] if known else 0
            tree = self._trees[chains[start - 1]] if start else Tree()
        if start == len(chains):
            return tree
        tree = tree.over(*map(self.index, filesystem.layers[start:]))
        with self._mutex:
            return self._trees.setdefault(filesystem.chain, tree)

    def snapshots(self, filesystem: Filesystem) -> tuple[Path, ...]:
        """The layers unpacked, lowest first; missing ones are pulled and unpacked side by side.

        A layer that comes more than once counts where it comes last: there it hides what the same
        layer did further down, and overlay takes no folder twice (ELOOP).
        """
        form = self._sandbox().form
        self._lease(*(form.name(layer.diff_id.hex) for layer in filesystem.layers))
        last = {layer.diff_id: number for number, layer in enumerate(filesystem.layers)}
        from minibuild.engine.repair import HIDES_ALL, LEAVES_PARENTS_OUT

        folders = {diff_id: self._unpacked(form, diff_id) for diff_id in last}
        jobs = {
            number: self._unpacker(filesystem.layers[number])
            for diff_id, number in last.items()
            if folders[diff_id] is None
        }
        made = in_parallel(jobs)
        found: list[Path] = []
        for number, layer in enumerate(filesystem.layers):
            if last[layer.diff_id] != number:
                continue
            trait = self._traits.get(layer.diff_id)
            if trait == HIDES_ALL:
                found.clear()
            found.append(folders[layer.diff_id] or made[number])
            if trait == LEAVES_PARENTS_OUT:
                found.extend(self._parents(_first(number + 1, filesystem)))
        return tuple(found)

    def _parents(self, filesystem: Filesystem) -> list[Path]:
        """What has to lie above a layer that leaves parent folders out."""
        from minibuild.engine.repair import parents_folder

        name = "parents-" + filesystem.chain.partition(":")[2]
        self._lease(self._sandbox().form.name(name))
        folder = parents_folder(name, self.tree(filesystem), store=self._store, sandbox=self._sandbox())
        return [] if folder is None else [folder]

    def _unpacker(self, layer: Layer) -> Callable[[], Path]:
        return lambda: self.snapshot(layer)

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
                    packed = sandbox.unpack(blob, layer.descriptor.media_type, root, layer.diff_id)
                except LayerError as error:
                    raise self._blamed(layer, error) from None
                if self._indexes.get(layer.diff_id) is None:
                    self._indexes.put(layer.diff_id, packed)
                trait = trait_of(LayerIndex.load(packed))
                if trait:
                    self._traits.put(layer.diff_id, trait)
                return form.root(self._store.snapshots.commit(target, name))


def _first(count: int, filesystem: Filesystem) -> Filesystem:
    """The lowest layers of a filesystem."""
    found = Filesystem()
    for layer in filesystem.layers[:count]:
        found = found.extended(layer)
    return found


def in_parallel(work: Mapping[int, Callable[[], Path]], *, limit: int = 4) -> dict[int, Path]:
    """Run the calls on up to `limit` threads; the first error is raised once all have ended."""
    results: dict[int, Path] = {}
    if len(work) < 2:
        return {key: call() for key, call in work.items()}
    errors: list[BaseException] = []
    queue = list(work.items())[::-1]

    def worker() -> None:
        while queue and not errors:
            try:
                key, call = queue.pop()
            except IndexError:
                return
            try:
                results[key] = call()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=stopping.carried(worker)) for _ in range(min(limit, len(queue)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if isinstance(error, MinibuildError)), errors[0])
    return results
