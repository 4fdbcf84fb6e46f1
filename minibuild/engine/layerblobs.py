"""Where the blobs of layers are (the store, a registry, a shared cache) and how they get here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, BlobNotFound, StoreError, StoreFull
from minibuild_store.store import Store

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.errors import Cancelled, LayerError, MinibuildError, UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    from minibuild.registry.client import Registry


class LayerLost(LayerError):
    """The blob of `layer` is gone or damaged: what made it has to run again, or to be pulled again."""

    def __init__(self, digest: Digest, why: str) -> None:
        super().__init__(
            f"layer {digest} {why}",
            cure="Build the image again, or pull it again where it came from a registry.",
        )
        self.digest = digest


class LayerNotShared(LayerLost):
    """The shared cache that told of the layer cannot give it and tells of it no more; another one may."""

    def __init__(self, digest: Digest, why: str, *, expected: bool = False) -> None:
        """`expected` where the cache had not said that it holds the layer."""
        super().__init__(digest, why)
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


class LayerBlobs:
    """Gives the blobs of layers; safe to use from several threads and processes.

    `registry` is called only when something must be pulled. `pulled` hears of progress: descriptor, bytes
    done, bytes in all. `lease` keeps names from gc.
    """

    def __init__(
        self,
        store: Store,
        *,
        registry: Callable[[], Registry],
        pulled: Callable[[Descriptor, int], None],
        lease: Callable[..., None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._pulled = pulled
        self._lease = lease
        self._origins: dict[Digest, Reference] = {}
        self._remote: dict[Digest, tuple[Layer, RemoteLayer]] = {}
        self.checked: set[Layer] = set()
        """Layers of shared caches that were read and are what the cache said."""
        self.pulls = True
        """Whether layers of base images may be fetched from their registries."""
        self.fetching: Callable[[], None] = lambda: None
        """Called before a blob is brought here; raises where none is to be."""
        self.working: Callable[[], AbstractContextManager[None]] = nullcontext
        """What is entered for work that keeps a processor busy."""
        self._seen: set[Digest] = set()
        self._indexes = store.records("indexes")

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
        if remote.held or digest not in self._remote:
            self._remote[digest] = layer, remote
        return True

    def _check(self, layer: Layer) -> None:
        """Read a layer that a shared cache told of; raises `LayerError` if it is not what was told."""
        from minibuild.layers.scan import index_blob

        with self._store.blobs.open(layer.descriptor.digest) as blob, self.working():
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
        status = self._store.blobs.status(digest)
        if status is None:
            return digest in self._origins or digest in self._remote
        if status.st_size != descriptor.size or (stamp and status.st_mtime_ns != stamp):
            return self.whole(digest) or digest in self._origins or digest in self._remote
        if status.st_nlink > 1 and not self._unchanged(digest, status.st_ctime_ns):
            return digest in self._origins or digest in self._remote
        return True

    def _unchanged(self, digest: Digest, ctime_ns: int) -> bool:
        """Whether a blob that has names outside the store is whole; read where its inode changed since.

        Its modification time may have been set back, which nobody can do to the change time.
        """
        linked = self._store.records("linked")
        noted = str(ctime_ns).encode()
        if linked.get(digest) == noted:
            return True
        if not self.whole(digest):
            return False
        linked.put(digest, noted)
        return True

    def note_links(self, descriptors: Iterable[Descriptor]) -> None:
        """Remember when blobs were given a name outside the store just now: that was no change of theirs."""
        for descriptor in descriptors:
            status = self._store.blobs.status(descriptor.digest)
            if status is not None and status.st_nlink > 1:
                self._store.records("linked").put(descriptor.digest, str(status.st_ctime_ns).encode())

    def within_reach(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here or can be pulled."""
        digest = descriptor.digest
        if digest in self._remote and not self._remote[digest][1].held:
            return self._store.blobs.has(digest, descriptor.size) or digest in self._origins
        return True

    def stamp(self, digest: Digest) -> int:
        """The blob's modification time in nanoseconds, 0 where it is not here."""
        status = self._store.blobs.status(digest)
        return 0 if status is None else status.st_mtime_ns

    def whole(self, digest: Digest) -> bool:
        """Read all of a blob: whether it is here and is what its digest says. One that is not is deleted."""
        try:
            with self.working():
                self._store.blobs.check(digest, anew=True)
        except StoreError:
            return False
        return True

    def sound(self, descriptor: Descriptor) -> Path:
        """As `path`, and its bytes are what its digest says; raises `LayerLost`."""
        path = self.path(descriptor)
        try:
            self._store.blobs.check(descriptor.digest)
        except BlobDamaged:
            raise LayerLost(descriptor.digest, "is damaged") from None
        return path

    def culprit(self, error: LayerError | BlobDamaged | BlobNotFound) -> Digest | None:
        """The blob that is to blame for `error`, deleted; None where every blob is what it should be."""
        if isinstance(error, LayerNotShared):
            return error.digest  # what has come of it is deleted, and another build may have it by now
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
            from minibuild_store import turns

            with turns.waiting():
                self._bring(descriptor)
        return blobs.path(descriptor.digest)

    def _bring(self, descriptor: Descriptor) -> None:
        self.fetching()
        origin = self._origins.get(descriptor.digest)
        if origin is None and descriptor.digest in self._remote:
            self._fetch(*self._remote[descriptor.digest])
            return
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

    def _fetch(self, layer: Layer, remote: RemoteLayer) -> None:
        """Bring a shared cache's layer here, and make sure that it is what the cache said it is."""
        digest = layer.descriptor.digest
        blobs = self._store.blobs
        if not remote.held:
            self._remote.pop(digest, None)
            remote.forget("")
            raise LayerNotShared(digest, "is not in the shared cache", expected=True)
        try:
            with self._store.lock(f"fetch {digest}"):
                if not blobs.has(digest, layer.descriptor.size):
                    remote.fetch(blobs, self._pulled)
                self._check(layer)
        except (StoreFull, Cancelled):
            raise
        except (MinibuildError, StoreError) as error:
            self._remote.pop(digest, None)
            blobs.delete(digest)
            remote.forget(str(error))
            raise LayerNotShared(digest, f"did not come from the shared cache: {error}") from None

    @contextmanager
    def reading(self, layer: Layer) -> Iterator[BinaryIO]:
        """The blob, to be read forward; what was read counts once the block has ended well.

        Raises `LayerLost` where its bytes are not what its digest says, and for a `LayerError` meanwhile that
        this is to blame for.
        """
        digest = layer.descriptor.digest
        self.path(layer.descriptor)
        try:
            with self._store.blobs.reading(digest) as blob:
                yield blob
        except BlobDamaged:
            raise LayerLost(digest, "is damaged") from None
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
