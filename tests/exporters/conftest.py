"""Images of real layers in a real store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
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
        with self.store.blobs.writer() as blob:
            writer = LayerWriter(blob.fd, compression)
            for name, content in files.items():
                writer.add(Entry(name.encode(), Kind.FILE, 0o644, size=len(content)), content)
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def blobs(store: Store) -> StoredBlobs:
    return StoredBlobs(store)


@pytest.fixture
def make(store: Store) -> Maker:
    return Maker(store)


@pytest.fixture
def image(make: Maker) -> Image:
    """Two layers, ``one`` and ``two``."""
    return make.image(make.layer({"one": b"1\n"}), make.layer({"two": b"22\n"}))


@pytest.fixture
def other_filesystem(tmp_path: Path) -> Iterator[Path]:
    """A folder that no file of `tmp_path` can be linked into."""
    for place in ("/dev/shm", "/var/tmp", str(Path.home())):
        if os.access(place, os.W_OK) and os.stat(place).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is one writable filesystem here")
