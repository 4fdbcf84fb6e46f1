from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from minibuild.errors import UsageError
from minibuild.exporters.assemble import assemble
from minibuild.exporters.docker import write_docker_archive
from minibuild.exporters.image import Image
from minibuild.layers.compress import Compression
from minibuild.oci.reference import Reference
from tests.exporters.images import Maker, StoredBlobs, members

ONE = Reference.parse("registry.example/one:1")
TWO = Reference.parse("two")
GZIP = Compression.parse("gzip")


@pytest.fixture
def docker_image(make: Maker) -> Image:
    return make.image(make.layer({"one": b"1\n"}, compression=GZIP))


def test_a_docker_archive_lists_configuration_tags_and_layers(
    docker_image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    assembly = assemble([docker_image], media_types="docker")
    write_docker_archive(assembly, tmp_path / "x.tar", blobs=blobs, names=[ONE, TWO])
    found = members(tmp_path / "x.tar")
    manifest = assembly.manifests[0]
    assert json.loads(found["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{manifest.config.digest.hex}",
            "RepoTags": ["registry.example/one:1", "two:latest"],
            "Layers": [f"blobs/sha256/{manifest.layers[0].digest.hex}"],
        }
    ]
    assert {"oci-layout", "index.json"} < set(found)


def test_a_docker_archive_without_a_name_has_no_tags(
    docker_image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_docker_archive(assemble([docker_image]), tmp_path / "x.tar", blobs=blobs)
    assert json.loads(members(tmp_path / "x.tar")["manifest.json"])[0]["RepoTags"] is None


def test_a_layer_that_occurs_twice_is_written_once_and_listed_twice(
    make: Maker, blobs: StoredBlobs, tmp_path: Path
) -> None:
    layer = make.layer({"one": b"1"}, compression=GZIP)
    write_docker_archive(assemble([make.image(layer, layer)]), tmp_path / "x.tar", blobs=blobs)
    with tarfile.open(tmp_path / "x.tar") as archive:
        found = [name for name in archive.getnames() if name.endswith(layer.descriptor.digest.hex)]
    assert len(found) == 1
    assert len(json.loads(members(tmp_path / "x.tar")["manifest.json"])[0]["Layers"]) == 2


def test_a_docker_archive_is_for_one_platform(make: Maker, blobs: StoredBlobs, tmp_path: Path) -> None:
    layer = make.layer({"one": b"1"}, compression=GZIP)
    images = [make.image(layer, platform=name) for name in ("linux/amd64", "linux/arm64")]
    with pytest.raises(UsageError, match="one platform"):
        write_docker_archive(assemble(images), tmp_path / "x.tar", blobs=blobs)
