"""An image into registries: blobs once for each repository, one manifest under all its tags."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from minibuild.errors import UsageError
from minibuild.exporters.assemble import Assembly, Document
from minibuild.exporters.image import BlobSource, ExportResult
from minibuild.exporters.target import check_size
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.progress import Progress
from minibuild.registry.push import PushBlob
from minibuild.values import replace


def push_image(
    assembly: Assembly,
    names: Sequence[Reference],
    *,
    blobs: BlobSource,
    registry: Registry,
    by_digest: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Push the image under every name; with `by_digest` the names' tags are not set.

    A layer that the registry has, or has in the repository its base came from, is not sent, and
    not fetched either if it was not here. Raises `RegistryError`; a tag never points at half an
    image.
    """
    if not names:
        raise UsageError("there is no name to push to", cure="Give one with --tag, or name= in the output.")
    pushed: dict[str, Reference] = {}
    for repository, tags in _repositories(names, by_digest).items():
        place = _Place(repository, blobs, pushed.get(repository.registry))
        for manifest in assembly.manifests[: 0 if len(assembly.manifests) == 1 else None]:
            registry.push(
                repository.with_digest(manifest.digest),
                manifest.to_bytes(),
                manifest.media_type,
                place.blobs(assembly, (manifest.config, *manifest.layers)),
                progress,
            )
        root = assembly.documents[-1]
        own = place.blobs(assembly, _children(assembly)) if len(assembly.manifests) == 1 else ()
        target = replace(repository, tag=tags[0]) if tags else repository.with_digest(root.descriptor.digest)
        registry.push(target, root.data, root.descriptor.media_type, own, progress, tags=tags[1:])
        pushed.setdefault(repository.registry, repository)
    return ExportResult("image", assembly.root, assembly.config, "", tuple(names))


def _children(assembly: Assembly) -> tuple[Descriptor, ...]:
    (manifest,) = assembly.manifests
    return manifest.config, *manifest.layers


def _repositories(names: Sequence[Reference], by_digest: bool) -> dict[Reference, list[str]]:
    """Each repository with the tags to set there, both in the order given."""
    found: dict[Reference, list[str]] = {}
    for name in names:
        tags = found.setdefault(Reference(name.registry, name.repository, ""), [])
        # a name by digest is checked by the push, and sets no tag
        if name.tag and name.digest is None and not by_digest and name.tag not in tags:
            tags.append(name.tag)
    return found


class _Place:
    """What a repository may need: bytes to upload, and where else the registry may have them."""

    def __init__(self, repository: Reference, blobs: BlobSource, earlier: Reference | None) -> None:
        self._repository = repository
        self._blobs = blobs
        self._earlier = earlier

    def blobs(self, assembly: Assembly, wanted: Sequence[Descriptor]) -> tuple[PushBlob, ...]:
        documents = {document.descriptor.digest: document for document in assembly.documents}
        held = {layer.digest: layer for layer in assembly.layers}
        return tuple(
            self._document(documents[one.digest])
            if one.digest in documents
            else self._layer(held[one.digest])
            for one in wanted
        )

    def _document(self, document: Document) -> PushBlob:
        return PushBlob(document.descriptor, lambda: io.BytesIO(document.data), self._earlier)

    def _layer(self, layer: Descriptor) -> PushBlob:
        origin = self._blobs.origin(layer)
        if origin is None or origin.registry != self._repository.registry:
            origin = self._earlier
        return PushBlob(layer, _opener(self._blobs.path, layer), origin)


def _opener(path: Callable[[Descriptor], Path], layer: Descriptor) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file = path(layer).open("rb")
        try:
            check_size(layer, file.seek(0, io.SEEK_END))
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    return opened
