from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.exporters.assemble import assemble
from minibuild.exporters.image import Image
from minibuild.exporters.push import push_image
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Index
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from tests.exporters.images import Maker, StoredBlobs
from tests.servers.docker_registry import DockerRegistry, docker_registry

AMD64 = Platform("linux", "amd64")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


def named(server: DockerRegistry, *names: str) -> list[Reference]:
    return [Reference.parse(f"{server.host}/{name}") for name in names]


def uploads(server: DockerRegistry, repository: str) -> int:
    return server.requests("PUT", f"/v2/{repository}/blobs/uploads/")


class Refusing:
    """A source that knows an origin and must not be asked for the bytes."""

    def __init__(self, origin: Reference) -> None:
        self._origin = origin

    def path(self, descriptor: Descriptor) -> Path:
        raise AssertionError(f"{descriptor.digest} was asked for")

    def origin(self, descriptor: Descriptor) -> Reference:
        return self._origin


def test_a_pushed_image_comes_back_byte_for_byte(
    server: DockerRegistry, registry: Registry, image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    (name,) = named(server, "same:1")
    assembly = assemble([image])
    result = push_image(assembly, [name], blobs=blobs, registry=registry)
    resolved = registry.resolve(name, AMD64)
    assert resolved.manifest == assembly.manifests[0]
    assert resolved.config_bytes == image.config.to_bytes()
    assert result.descriptor is not None
    assert result.descriptor.digest == resolved.manifest.digest
    with Store.open(tmp_path / "other") as other:
        registry.fetch_blobs(name, resolved.manifest.layers, other.blobs)
        assert all(other.blobs.get(layer.digest) for layer in resolved.manifest.layers)


def test_several_tags_of_a_repository_share_one_upload(
    server: DockerRegistry, registry: Registry, image: Image, blobs: StoredBlobs
) -> None:
    names = named(server, "tags:1", "tags:2", "tags:3")
    push_image(assemble([image]), names, blobs=blobs, registry=registry)
    assert uploads(server, "tags") == 3
    assert sorted(registry.tags(names[0])) == ["1", "2", "3"]


def test_a_second_repository_mounts_what_the_first_got(
    server: DockerRegistry, registry: Registry, image: Image, blobs: StoredBlobs
) -> None:
    names = named(server, "first:1", "second:1")
    push_image(assemble([image]), names, blobs=blobs, registry=registry)
    assert uploads(server, "second") == 0
    assert registry.resolve(names[1], AMD64).manifest == assemble([image]).manifests[0]


def test_a_base_layer_is_mounted_from_where_it_came(
    server: DockerRegistry, registry: Registry, make: Maker, blobs: StoredBlobs
) -> None:
    base, derived = named(server, "base:1", "derived:1")
    image = make.image(make.layer({"base": b"b"}, base=True))
    push_image(assemble([image]), [base], blobs=blobs, registry=registry)
    push_image(assemble([image]), [derived], blobs=Refusing(base), registry=registry)
    assert uploads(server, "derived") == 1  # the configuration, which is ours


def test_a_push_by_digest_sets_no_tag(
    server: DockerRegistry, registry: Registry, image: Image, blobs: StoredBlobs
) -> None:
    (name,) = named(server, "untagged:1")
    assembly = assemble([image])
    push_image(assembly, [name], blobs=blobs, registry=registry, by_digest=True)
    assert registry.head(name) is None
    assert registry.head(name.with_digest(assembly.root.digest)) is not None


def test_an_index_is_pushed_after_its_images(
    server: DockerRegistry, registry: Registry, make: Maker, blobs: StoredBlobs
) -> None:
    (name,) = named(server, "multi:1")
    layer = make.layer({"one": b"1"})
    images = [make.image(layer, platform=one) for one in ("linux/amd64", "linux/arm64")]
    assembly = assemble(images)
    push_image(assembly, [name], blobs=blobs, registry=registry)
    assert isinstance(registry.fetch_manifest(name), Index)
    for manifest, platform in zip(assembly.manifests, ("linux/amd64", "linux/arm64"), strict=True):
        assert registry.resolve(name, Platform.parse(platform)).manifest == manifest


def test_a_push_without_a_name_is_refused(registry: Registry, image: Image, blobs: StoredBlobs) -> None:
    with pytest.raises(UsageError, match="no name"):
        push_image(assemble([image]), [], blobs=blobs, registry=registry)
