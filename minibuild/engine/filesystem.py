"""A filesystem as a stack of layers, and the three forms a layer can take: blob, index, snapshot.

Each form is made when a step first needs it and kept in the store. A blob that is still in a
registry is pulled; an index is read off the blob in one pass; a snapshot is unpacked by the sandbox.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.errors import LayerError, MinibuildError
from minibuild.layers.index import LayerIndex
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    from minibuild.layers.tree import Tree
    from minibuild.registry.client import Registry
    from minibuild.sandbox.client import Sandbox


class Layer(NamedTuple):
    """A layer's content and the blob that holds it."""

    diff_id: Digest
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Layers, lowest first. `chain` is the chain ID (image-spec, config.md), "" for nothing."""

    layers: tuple[Layer, ...] = ()
    chain: str = ""

    def extended(self, layer: Layer) -> Filesystem:
        return Filesystem((*self.layers, layer), chain_of(self.chain, layer.diff_id))


def chain_of(parent: str, diff_id: Digest) -> str:
    """The chain ID of a layer on `parent` (a chain ID or "")."""
    if not parent:
        return str(diff_id)
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


def image_filesystem(image: ResolvedImage) -> Filesystem:
    """The layers of a resolved image, by its configuration's diff IDs."""
    diff_ids = image.config.diff_ids
    if len(diff_ids) != len(image.layers):
        raise LayerError(
            f"{image.name}: {len(image.layers)} layers in the manifest, {len(diff_ids)} in the configuration",
            cure="The image is damaged; push it again.",
        )
    filesystem = Filesystem()
    for diff_id, descriptor in zip(diff_ids, image.layers, strict=True):
        filesystem = filesystem.extended(Layer(diff_id, descriptor))
    return filesystem


class Layers:
    """Gives the forms of layers; safe to use from several threads and processes.

    `registry` and `sandbox` are called only when something must be pulled or unpacked. `pulled`
    hears of progress: descriptor, bytes done, bytes in all.
    """

    def __init__(
        self,
        store: Store,
        *,
        registry: Callable[[], Registry],
        sandbox: Callable[[], Sandbox],
        pulled: Callable[[Descriptor, int], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._sandbox = sandbox
        self._pulled = pulled
        self._origins: dict[Digest, Reference] = {}
        self._trees: dict[str, Tree] = {}
        self._mutex = threading.Lock()
        self._indexes = store.records("indexes")
        self._partial = store.records("partial-layers")

    def know(self, image: ResolvedImage) -> None:
        """Remember where the blobs of `image` can be pulled from."""
        if image.origin is not None:
            for descriptor in image.layers:
                self._origins.setdefault(descriptor.digest, image.origin)

    def origin(self, descriptor: Descriptor) -> Reference | None:
        return self._origins.get(descriptor.digest)

    def present(self, layer: Layer) -> bool:
        """Whether the blob is here or can be pulled."""
        descriptor = layer.descriptor
        return self._store.blobs.has(descriptor.digest, descriptor.size) or descriptor.digest in self._origins

    def path(self, descriptor: Descriptor) -> Path:
        """The blob as a local file; pulled first where it is not here."""
        blobs = self._store.blobs
        if not blobs.has(descriptor.digest, descriptor.size):
            origin = self._origins.get(descriptor.digest)
            if origin is None:
                raise LayerError(
                    f"layer {descriptor.digest} is no longer in the store",
                    cure="Build again with --no-cache, or with --pull if it came with a base image.",
                )
            self._registry().fetch_blob(origin, descriptor, self._store.blobs, self._pulled)
        return blobs.path(descriptor.digest)

    def index(self, layer: Layer) -> LayerIndex:
        """Names and metadata of everything in the layer."""
        data = self._indexes.get(layer.diff_id)
        if data is not None:
            try:
                return LayerIndex.load(data)
            except LayerError:
                pass  # written by another version: read it off the blob again
        from minibuild.layers.scan import index_blob

        path = self.path(layer.descriptor)
        with self._store.lock(f"index {layer.diff_id}"), path.open("rb") as blob:
            index = index_blob(blob, layer.descriptor.media_type, layer.diff_id)
        self._indexes.put(layer.diff_id, index.dump())
        return index

    def keep_index(self, diff_id: Digest, packed: bytes) -> None:
        self._indexes.put(diff_id, packed)

    def tree(self, filesystem: Filesystem) -> Tree:
        """The merged view of all layers."""
        with self._mutex:
            known = self._trees.get(filesystem.chain)
        if known is not None:
            return known
        from minibuild.layers.tree import Tree

        tree = Tree.of([self.index(layer) for layer in filesystem.layers])
        with self._mutex:
            return self._trees.setdefault(filesystem.chain, tree)

    def snapshots(self, filesystem: Filesystem) -> tuple[Path, ...]:
        """The layers unpacked, lowest first; missing ones are pulled and unpacked side by side.

        A layer that comes more than once counts where it comes last: there it hides what the same
        layer did further down, and overlay takes no folder twice (ELOOP).
        """
        last = {layer.diff_id: number for number, layer in enumerate(filesystem.layers)}
        layers = [filesystem.layers[number] for number in sorted(last.values())]
        folders: list[Path | None] = [self._store.snapshots.path(layer.diff_id.hex) for layer in layers]
        missing = [number for number, folder in enumerate(folders) if folder is None]
        jobs = {number: layers[number] for number in missing}
        folders_made = in_parallel({number: self._unpacker(layer) for number, layer in jobs.items()})
        found: list[Path] = []
        below = Filesystem()
        for number, layer in enumerate(filesystem.layers):
            below = below.extended(layer)
            found.append(folders[number] or folders_made[number])
            if self._partial.get(layer.diff_id) is not None:
                found.extend(self._parents(below))
        return tuple(found)

    def _parents(self, filesystem: Filesystem) -> list[Path]:
        """What has to lie above a layer that leaves parent folders out."""
        from minibuild.engine.repair import parents_folder

        name = "parents-" + filesystem.chain.partition(":")[2]
        folder = parents_folder(name, self.tree(filesystem), store=self._store, sandbox=self._sandbox())
        return [] if folder is None else [folder]

    def _unpacker(self, layer: Layer) -> Callable[[], Path]:
        return lambda: self.snapshot(layer)

    def snapshot(self, layer: Layer) -> Path:
        """The layer unpacked as an overlay lower folder."""
        name = layer.diff_id.hex
        with self._store.lock(f"snapshot {name}"):
            folder = self._store.snapshots.path(name)
            if folder is not None:
                return folder
            from minibuild.engine.repair import leaves_parents_out

            blob = self.path(layer.descriptor)
            sandbox = self._sandbox()
            with self._store.snapshots.workspace(remove=sandbox.remove) as work:
                target = work / "root"
                target.mkdir(mode=0o755)
                packed = sandbox.unpack(blob, layer.descriptor.media_type, target, layer.diff_id)
                if self._indexes.get(layer.diff_id) is None:
                    self._indexes.put(layer.diff_id, packed)
                if leaves_parents_out(LayerIndex.load(packed)):
                    self._partial.put(layer.diff_id, b"")
                return self._store.snapshots.commit(target, name)


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

    threads = [threading.Thread(target=worker) for _ in range(min(limit, len(queue)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if isinstance(error, MinibuildError)), errors[0])
    return results
