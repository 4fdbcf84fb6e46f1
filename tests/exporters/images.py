"""Images of real layers in a real store."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.exporters.image import Image, ImageLayer
from minibuild.layers.compress import DEFAULT, Compression
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.writer import LayerWriter
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference

CREATED = "2026-03-04T05:06:07.891Z"


@dataclass
class StoredBlobs:
    """Blobs of a store; `origins` says which of them a registry holds, `asked` which were wanted."""

    store: Store
    origins: dict[Digest, Reference] = field(default_factory=dict)
    asked: list[Digest] = field(default_factory=list)

    def path(self, descriptor: Descriptor) -> Path:
        self.asked.append(descriptor.digest)
        return self.store.blobs.path(descriptor.digest)

    def origin(self, descriptor: Descriptor) -> Reference | None:
        return self.origins.get(descriptor.digest)


class Maker:
    """Makes layers and images."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def layer(
        self, files: Mapping[str, bytes], *, compression: Compression = DEFAULT, base: bool = False
    ) -> ImageLayer:
        """A layer of regular files."""
        entries = [
            (Entry(name.encode(), Kind.FILE, 0o644, size=len(content)), content)
            for name, content in files.items()
        ]
        return self.layer_of(*entries, compression=compression, base=base)

    def layer_of(
        self, *entries: tuple[Entry, bytes], compression: Compression = DEFAULT, base: bool = False
    ) -> ImageLayer:
        """A layer of any entries."""
        with self.store.blobs.writer() as blob:
            writer = LayerWriter(blob.fd, compression)
            for entry, content in entries:
                writer.add(entry, content if entry.kind is Kind.FILE else None)
            result = writer.close()
            blob.commit_hashed(BlobInfo(result.digest, result.size))
        return ImageLayer(
            result.diff_id, Descriptor(result.media_type, result.digest, result.size), base=base
        )

    def image(self, *layers: ImageLayer, platform: str = "linux/amd64", created: str = CREATED) -> Image:
        history = tuple(History(created_by=f"COPY {i}", created=created) for i in range(len(layers)))
        config = ImageConfig(
            Platform.parse(platform),
            created=created,
            cmd=("/one",),
            diff_ids=tuple(layer.diff_id for layer in layers),
            history=history,
        )
        return Image(config, layers)


def members(path: Path) -> dict[str, bytes]:
    """The files of a tar archive and what they hold."""
    with tarfile.open(path) as archive:
        return {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
