"""The images this store knows by name: built here, tagged, or pulled as bases.

A record a name holds the digests; the documents are blobs. Nothing here knows of layers' contents.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError
from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.oci.config import ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.oci.manifest import InvalidManifest, parse_descriptor
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A name with the image it stands for; `pulled` marks a base that was never tagged here."""

    name: Reference
    image: ResolvedImage
    manifest_type: str
    created: str
    pulled: bool

    @property
    def id(self) -> Digest:
        return self.image.digest


class LocalImages:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._tags = store.records("images")
        self._pulled = store.records("pulls")

    def find(self, reference: Reference, platform: Platform | None = None) -> ResolvedImage | None:
        """The image called `reference`, tagged here or pulled before; None where it is not known."""
        named = self.named(reference, platform)
        return None if named is None else named.image

    def get(self, reference: Reference) -> ResolvedImage:
        """As `find`; raises `UsageError` where it is not known."""
        found = self.find(reference)
        if found is None:
            raise self.unknown(reference)
        return found

    def named(self, reference: Reference, platform: Platform | None = None) -> NamedImage | None:
        tagged = self._tags.get(str(reference))
        if tagged is not None:
            found = self._load(reference, tagged, pulled=False)
            if found is not None and (platform is None or _runs_on(found.image.config.platform, platform)):
                return found
        platform = platform or Platform.of_host()
        data = self._pulled.get(f"{reference} {platform}")
        return None if data is None else self._load(reference, data, pulled=True)

    def _load(self, name: Reference, data: bytes, *, pulled: bool) -> NamedImage | None:
        """Read a record and its documents; None where a document is gone or damaged."""
        try:
            document = json.loads(data)
            config = ImageConfig.parse(self._store.blobs.get(Digest.parse(document["config"])))
            # annotations too: they are part of every manifest that the layer is in
            layers = tuple(parse_descriptor(layer, "layer") for layer in document["layers"])
            origin = Reference.parse(document["origin"]) if document.get("origin") else None
            image = ResolvedImage(str(name), Digest.parse(document["manifest"]), config, layers, origin)
        except (ValueError, KeyError, TypeError, StoreError, InvalidManifest):
            return None
        return NamedImage(name, image, document.get("type", ""), config.created, pulled)

    def remember(
        self,
        reference: Reference,
        platform: Platform,
        image: ResolvedImage,
        manifest: bytes,
        config: bytes,
    ) -> None:
        """Keep a base image's documents, so that the next build need not ask its registry."""
        self._store.blobs.put(manifest)
        config_digest = self._store.blobs.put(config).digest
        self._pulled.put(f"{reference} {platform}", _record(image, config_digest))

    def tag(self, reference: Reference, image: ResolvedImage, config_digest: Digest) -> None:
        """Let `reference` stand for `image`, whose configuration is a blob already."""
        self._tags.put(str(reference), _record(image, config_digest))

    def retag(self, source: Reference, target: Reference) -> None:
        data = self._tags.get(str(source)) or self._pulled.get(f"{source} {Platform.of_host()}")
        if data is None:
            raise self.unknown(source)
        self._tags.put(str(target), data)

    def untag(self, reference: Reference) -> None:
        if self._tags.get(str(reference)) is None:
            raise self.unknown(reference)
        self._tags.delete(str(reference))

    def unknown(self, reference: Reference) -> UsageError:
        from minibuild.dockerfile.suggest import did_you_mean

        names = [name.familiar for name in self.names()]
        hint = did_you_mean(reference.familiar, names).strip()
        return UsageError(
            f"no image {reference.familiar} here", cure=hint or "minibuild images lists what there is."
        )

    def names(self) -> Iterator[Reference]:
        return (Reference.parse(name) for name in self._tags.names())

    def all(self) -> list[NamedImage]:
        """Every tagged image, newest first."""
        found = [self.named(name) for name in self.names()]
        return sorted((image for image in found if image is not None), key=_created, reverse=True)

    def config_digest(self, image: NamedImage) -> Digest:
        data = (
            self._tags.get(str(image.name)) or self._pulled.get(f"{image.name} {Platform.of_host()}") or b"{}"
        )
        return Digest.parse(json.loads(data)["config"])


def _created(image: NamedImage) -> str:
    return image.created


def _runs_on(have: Platform, want: Platform) -> bool:
    return (have.os, have.architecture) == (want.os, want.architecture)


def _record(image: ResolvedImage, config_digest: Digest) -> bytes:
    document = {
        "manifest": image.digest,
        "config": config_digest,
        "layers": [layer.to_json() for layer in image.layers],
        "origin": str(image.origin) if image.origin else "",
        "tagged": time.time(),
    }
    return json.dumps(document, separators=(",", ":")).encode()
