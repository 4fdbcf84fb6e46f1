"""A filesystem as a stack of layers, and the three forms a layer can take: blob, index, snapshot.

Each form is made when a step first needs it and kept in the store. A blob that is still in a
registry is pulled; an index is read off the blob in one pass; a snapshot is unpacked by the sandbox.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, BlobNotFound, StoreError, StoreFull
from minibuild_store.store import Store

from minibuild.errors import LayerError, MinibuildError, UsageError
from minibuild.layers.index import LayerIndex
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer as Layer
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference
from minibuild.values import dataclass

if TYPE_CHECKING:
    from minibuild.context.place import Placed
    from minibuild.engine.fetched import Fetched
    from minibuild.layers.form import Form
    from minibuild.layers.tree import Tree
    from minibuild.plan.steps import GitItem, UrlItem
    from minibuild.registry.client import Registry
    from minibuild.sandbox.client import Sandbox


class LayerLost(LayerError):
    """The blob of `layer` is gone or damaged: what made it has to run again, or to be pulled again."""

    def __init__(self, digest: Digest, why: str, *, expected: bool = False) -> None:
        """`expected` where the layer was known not to be anywhere."""
        super().__init__(
            f"layer {digest} {why}",
            cure="Build again with --no-cache, or with --pull if it came with a base image.",
        )
        self.digest = digest
        self.expected = expected


class RemoteLayer(Protocol):
    """A layer that a shared cache told of: pulled when its bytes are needed, and no sooner."""

    @property
    def held(self) -> bool:
        """Whether it can be pulled at all; the step that made it has to run otherwise."""

    @property
    def reference(self) -> Reference | None:
        """The registry repository that it is in, None where it is kept elsewhere."""

    def fetch(self, blobs: Blobs, progress: Callable[[Descriptor, int], None]) -> None:
        """Bring the blob into `blobs`, its digest and size checked; raises `MinibuildError`, `StoreError`."""

    def forget(self, why: str) -> None:
        """Hand it out no more: what came was not what was promised, or nothing came."""


class StandIns(Protocol):
    """What a build that is only thought through has in place of writing layers and fetching files."""

    def layer(self, placed: Sequence[Placed]) -> Layer:
        """The layer that `placed` would be."""

    def fetched(self, item: UrlItem | GitItem) -> Fetched:
        """What `item` would be."""


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
    hears of progress: descriptor, bytes done, bytes in all. `lease` keeps names from gc.
    """

    def __init__(
        self,
        store: Store,
        *,
        registry: Callable[[], Registry],
        sandbox: Callable[[], Sandbox],
        pulled: Callable[[Descriptor, int], None],
        lease: Callable[..., None] = lambda *names: None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._sandbox = sandbox
        self._pulled = pulled
        self._lease = lease
        self._origins: dict[Digest, Reference] = {}
        self._remote: dict[Digest, tuple[Layer, RemoteLayer]] = {}
        self.checked: set[Layer] = set()
        """Layers of shared caches that were read and are what the cache said."""
        self.notes: dict[str, str] = {}
        """The content digests of the selections of this build, by name: part of what a shared cache holds."""
        self.shared_note: Callable[[str], str | None] = lambda name: None
        self.stand_ins: StandIns | None = None
        self.pulls = True
        """Whether layers of base images may be fetched from their registries."""
        self._seen: set[Digest] = set()
        self._trees: dict[str, Tree] = {}
        self._mutex = threading.Lock()
        self._indexes = store.records("indexes")
        self._traits = store.records("traits")

    def know(self, image: ResolvedImage) -> None:
        """Remember where the blobs of `image` can be pulled from, and keep those that are here."""
        self._seen.update(descriptor.digest for descriptor in image.layers)
        self._lease(*(d.digest for d in image.layers), *(diff_id.hex for diff_id in image.config.diff_ids))
        if image.origin is not None:
            for descriptor in image.layers:
                self._origins.setdefault(descriptor.digest, image.origin)

    def origin(self, descriptor: Descriptor) -> Reference | None:
        origin = self._origins.get(descriptor.digest)
        if origin is None and descriptor.digest in self._remote:
            return self._remote[descriptor.digest][1].reference
        return origin or self._noted_origin(descriptor.digest)

    def _noted_origin(self, digest: Digest) -> Reference | None:
        """Where an image of this store has a layer that was never needed here."""
        if self._store.blobs.has(digest):
            return None
        data = self._store.records("origins").get(digest)
        return None if data is None else Reference.parse(data.decode())

    def of_base(self, descriptor: Descriptor) -> bool:
        """Whether the layer came with a base image from a registry."""
        return descriptor.digest in self._origins

    def expect(self, layer: Layer, remote: RemoteLayer) -> bool:
        """Count `layer` as present: `remote` brings it when it is needed.

        False where its blob is here already and is not the layer that the shared cache says it is.
        """
        digest = layer.descriptor.digest
        self._lease(digest, layer.diff_id.hex)
        self._seen.add(digest)
        if self._store.blobs.has(digest, layer.descriptor.size) and layer not in self.checked:
            try:
                self._check(layer)
            except LayerError as error:
                remote.forget(str(error))
                return False
        self._remote[digest] = layer, remote
        return True

    def _check(self, layer: Layer) -> None:
        """Read a layer that a shared cache told of; raises `LayerError` if it is not what was told."""
        from minibuild.layers.scan import index_blob

        with self._store.blobs.open(layer.descriptor.digest) as blob:
            index = index_blob(blob, layer.descriptor.media_type, layer.diff_id)
        self._indexes.put(layer.diff_id, index.dump())
        self.checked.add(layer)

    def settle(self, filesystem: Filesystem) -> None:
        """See to it that the layers can be had once this build's shared caches are forgotten."""
        for layer in filesystem.layers:
            digest = layer.descriptor.digest
            if digest not in self._remote or self._store.blobs.has(digest, layer.descriptor.size):
                continue
            reference = self._remote[digest][1].reference
            if reference is None:
                self.path(layer.descriptor)
            else:
                self._store.records("origins").put(digest, str(reference).encode())

    def note_origins(self, filesystem: Filesystem) -> None:
        """Have the store know where each layer that is not here can be pulled, of several places."""
        for layer in filesystem.layers:
            digest = layer.descriptor.digest
            if digest in self._origins and not self._store.blobs.has(digest, layer.descriptor.size):
                self._store.records("origins").put(digest, str(self._origins[digest]).encode())

    def present(self, layer: Layer, stamp: int = 0) -> bool:
        """Whether the blob is here or can be pulled; from now on gc leaves it alone.

        With the `stamp` that it had when it was known to be whole, a blob written to since is checked.
        """
        descriptor = layer.descriptor
        digest = descriptor.digest
        self._lease(digest, layer.diff_id.hex)
        self._seen.add(digest)
        try:
            status = os.stat(self._store.blobs.path(digest))
        except FileNotFoundError:
            return digest in self._origins or digest in self._remote
        if status.st_size != descriptor.size or (stamp and status.st_mtime_ns != stamp):
            return self.whole(digest) or digest in self._origins or digest in self._remote
        return True

    def within_reach(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here or can be pulled."""
        digest = descriptor.digest
        if digest in self._remote and not self._remote[digest][1].held:
            return self._store.blobs.has(digest, descriptor.size) or digest in self._origins
        return True

    def stamp(self, digest: Digest) -> int:
        """The blob's modification time in nanoseconds, 0 where it is not here."""
        try:
            return os.stat(self._store.blobs.path(digest)).st_mtime_ns
        except FileNotFoundError:
            return 0

    def whole(self, digest: Digest) -> bool:
        """Read all of a blob: whether it is here and is what its digest says. One that is not is deleted."""
        try:
            with self._store.blobs.open_verified(digest) as blob:
                while blob.read(1 << 20):
                    pass
        except StoreError:
            return False
        return True

    def culprit(self, error: LayerError | BlobDamaged | BlobNotFound) -> Digest | None:
        """The blob that is to blame for `error`, deleted; None where every blob is what it should be."""
        if isinstance(error, LayerLost | BlobDamaged | BlobNotFound):
            digest = Digest(error.digest)
            self._store.blobs.delete(digest)
            return digest
        here = (digest for digest in sorted(self._seen) if self._store.blobs.has(digest))
        return next((digest for digest in here if not self.whole(digest)), None)

    def path(self, descriptor: Descriptor) -> Path:
        """The blob as a local file; pulled first where it is not here."""
        blobs = self._store.blobs
        if not blobs.has(descriptor.digest, descriptor.size):
            origin = self._origins.get(descriptor.digest)
            if origin is None and descriptor.digest in self._remote:
                self._fetch(*self._remote[descriptor.digest])
                return blobs.path(descriptor.digest)
            origin = origin or self._noted_origin(descriptor.digest)
            if origin is None:
                raise LayerLost(descriptor.digest, "is no longer in the store")
            if not self.pulls and self.of_base(descriptor):
                raise UsageError(
                    f"layer {descriptor.digest.short} of {origin.familiar} is needed and not here,"
                    " and --pull=never fetches none",
                    cure=f"Fetch it with minibuild pull {origin.familiar}, or build without --pull=never.",
                )
            self._registry().fetch_blob(origin, descriptor, self._store.blobs, self._pulled)
        return blobs.path(descriptor.digest)

    def _fetch(self, layer: Layer, remote: RemoteLayer) -> None:
        """Bring a shared cache's layer here, and make sure that it is what the cache said it is."""
        digest = layer.descriptor.digest
        blobs = self._store.blobs
        if not remote.held:
            self._remote.pop(digest, None)
            remote.forget("")
            raise LayerLost(digest, "is not in the shared cache", expected=True)
        try:
            with self._store.lock(f"fetch {digest}"):
                if not blobs.has(digest, layer.descriptor.size):
                    remote.fetch(blobs, self._pulled)
                self._check(layer)
        except StoreFull:
            raise
        except (MinibuildError, StoreError) as error:
            self._remote.pop(digest, None)
            blobs.delete(digest)
            remote.forget(str(error))
            raise LayerLost(digest, f"did not come from the shared cache: {error}") from None

    @contextmanager
    def reading(self, layer: Layer) -> Iterator[BinaryIO]:
        """The blob, to be read. A `LayerError` meanwhile becomes `LayerLost` where the blob is to blame."""
        try:
            with self.path(layer.descriptor).open("rb") as blob:
                yield blob
        except LayerError as error:
            raise self._blamed(layer, error) from None

    def _blamed(self, layer: Layer, error: LayerError) -> LayerError:
        digest = layer.descriptor.digest
        if isinstance(error, LayerLost):
            return error
        if self.whole(digest):
            error.message = f"{error.message} (layer {digest})"
            error.cure = error.cure or "The image is faulty: make or pull it again, or use another."
            return error
        return LayerLost(digest, "is damaged")

    def index(self, layer: Layer) -> LayerIndex:
        """Names and metadata of everything in the layer."""
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

    def keep_index(self, diff_id: Digest, packed: bytes) -> None:
        self._indexes.put(diff_id, packed)

    def tree(self, filesystem: Filesystem) -> Tree:
        """The merged view of all layers."""
        with self._mutex:
            known = self._trees.get(filesystem.chain)
        if known is not None:
            return known
        from minibuild.layers.tree import Tree

        *lower, top = filesystem.layers or (None,)
        below = Filesystem()
        for layer in lower:
            below = below.extended(layer)
        with self._mutex:
            known = self._trees.get(below.chain)
        if known is not None and top is not None:
            tree = known.over(self.index(top))
        else:
            tree = Tree.of([self.index(layer) for layer in filesystem.layers])
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

    threads = [threading.Thread(target=worker) for _ in range(min(limit, len(queue)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if isinstance(error, MinibuildError)), errors[0])
    return results
