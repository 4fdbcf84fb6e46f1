"""A shared cache in a registry: one manifest under a tag, its layers beside the images'."""

from __future__ import annotations

import io
from collections.abc import Sequence

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Progress, Saved, Services, Upload
from minibuild.cache.document import (
    CONFIG_TYPE,
    CacheDocument,
    InvalidCache,
    cache_manifest,
    read_document,
    read_manifest,
)
from minibuild.cache.spec import CacheSpec
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Index
from minibuild.oci.mediatype import OCI_MANIFEST
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.errors import NotFound
from minibuild.registry.push import PushBlob


def open_cache(spec: CacheSpec, services: Services) -> RegistryCache:
    return RegistryCache(Reference.parse(spec.options["ref"]), services.registry())


class RegistryCache:
    """The cache called `reference`: a manifest of its own, or an image that carries one inline."""

    def __init__(self, reference: Reference, registry: Registry) -> None:
        self._reference = reference
        self._registry = registry

    @property
    def reference(self) -> Reference:
        return self._reference

    def load(self) -> CacheDocument | None:
        try:
            manifest = self._registry.fetch_manifest(self._reference)
        except NotFound:
            return None
        if isinstance(manifest, Index):
            read_manifest(manifest.raw) if not manifest.images else None
            chosen = manifest.select(Platform.of_host())
            if chosen is None:
                raise InvalidCache("it has no image for this platform")
            manifest = self._registry.fetch_manifest(self._reference.with_digest(chosen.digest))
        found = read_manifest(manifest.raw)
        if found.document is not None:
            return found.document
        assert found.blob is not None
        return read_document(self._read(found.blob))

    def _read(self, descriptor: Descriptor) -> bytes:
        """A small blob, by way of a store that lives for a moment."""
        import tempfile
        from pathlib import Path

        from minibuild_store.store import Store

        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder, "store")) as store:
            self._registry.fetch_blob(self._reference, descriptor, store.blobs)
            return store.blobs.get(descriptor.digest)

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        self._registry.fetch_blob(self._reference, descriptor, blobs, progress)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        data = document.dump()
        manifest = cache_manifest(data, [upload.descriptor for upload in uploads])
        records = Descriptor(CONFIG_TYPE, Digest.of(data), len(data))
        blobs = [PushBlob(records, lambda: io.BytesIO(data))]
        blobs += [PushBlob(upload.descriptor, upload.opener, upload.origin) for upload in uploads]
        pushed = self._registry.push(self._reference, manifest, OCI_MANIFEST, blobs, progress)
        if pushed.unchanged:
            return Saved(0, len(uploads))
        return Saved(max(0, pushed.uploaded + pushed.mounted - 1), pushed.present)

    def close(self) -> None:
        self._registry.close()
