"""Against Debian's docker-registry, the reference implementation."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.oci.manifest import Index, Manifest
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.errors import NotFound, Unauthorized
from minibuild.registry.options import RegistryOptions
from minibuild.registry.push import PushBlob
from tests.servers.docker_registry import PROGRAM, DockerRegistry, docker_registry
from tests.servers.images import AMD64, ARM64, SmallImage, small_image


def push(client: Registry, name: str, image: SmallImage) -> Reference:
    ref = Reference.parse(name)
    client.push(ref, image.manifest.raw, image.manifest.media_type, image.push_blobs())
    return ref


def test_a_pushed_image_resolves_to_the_same_bytes(real: DockerRegistry, client: Registry) -> None:
    image = small_image(1)
    ref = push(client, f"{real.host}/same/bytes:1.0", image)
    resolved = client.resolve(ref, AMD64)
    assert resolved.manifest_bytes == image.manifest.raw
    assert resolved.reference == ref.with_digest(image.manifest.digest)
    assert resolved.config_bytes == image.content[image.manifest.config.digest]
    assert resolved.index_digest is None
    assert resolved.source == ref


def test_layers_come_back_into_the_store(real: DockerRegistry, client: Registry, store: Store) -> None:
    image = small_image(2, layers=(10, 3_000_000, 0))
    ref = push(client, f"{real.host}/layers", image)
    client.fetch_blobs(ref, image.manifest.layers, store.blobs)
    assert tuple(store.blobs.get(layer.digest) for layer in image.manifest.layers) == image.layers


def test_an_index_is_pushed_after_its_images_and_resolved_by_platform(
    real: DockerRegistry, client: Registry
) -> None:
    images = {AMD64: small_image(3), ARM64: small_image(4, platform=ARM64)}
    ref = Reference.parse(f"{real.host}/multi:all")
    for image in images.values():
        by_digest = replace(ref, tag="", digest=image.manifest.digest)
        client.push(by_digest, image.manifest.raw, image.manifest.media_type, image.push_blobs())
    index = Index.of([replace(one.manifest.descriptor, platform=key) for key, one in images.items()])
    client.push(ref, index.raw, index.media_type)
    for platform, image in images.items():
        resolved = client.resolve(ref, platform)
        assert resolved.manifest == image.manifest
        assert resolved.index_digest == index.digest


def test_blobs_of_another_repository_are_mounted_and_not_sent(real: DockerRegistry, client: Registry) -> None:
    image = small_image(5, layers=(70_000, 80_000))
    base = push(client, f"{real.host}/base/image", image)
    target = Reference.parse(f"{real.host}/derived/image")
    before = real.requests("PUT", "/v2/derived/image/blobs/uploads/")
    done = client.push(
        target,
        image.manifest.raw,
        image.manifest.media_type,
        image.push_blobs(mount_from=base, lazy=True),
    )
    assert (done.mounted, done.uploaded) == (2, 1)
    assert real.requests("PUT", "/v2/derived/image/blobs/uploads/") - before == 1


def test_a_second_push_of_the_same_image_sends_nothing(real: DockerRegistry, client: Registry) -> None:
    image = small_image(6)
    ref = push(client, f"{real.host}/twice:1", image)
    assert client.push(ref, image.manifest.raw, image.manifest.media_type, image.push_blobs()).unchanged


def test_a_new_tag_for_the_same_image_sends_only_the_manifest(real: DockerRegistry, client: Registry) -> None:
    image = small_image(7)
    ref = push(client, f"{real.host}/tags:1", image)
    other = replace(ref, tag="2")
    done = client.push(other, image.manifest.raw, image.manifest.media_type, image.push_blobs(), tags=["3"])
    assert (done.present, done.uploaded) == (0, 0)
    assert tuple(sorted(client.tags(ref))) == ("1", "2", "3")


def test_large_blobs_go_in_pieces(real: DockerRegistry, store: Store) -> None:
    image = small_image(8, layers=(1_000_000,))
    before = real.requests("PATCH")
    with Registry(RegistryOptions(chunked_above=500_000, chunk=300_000)) as client:
        ref = push(client, f"{real.host}/chunked", image)
        client.fetch_blob(ref, image.manifest.layers[0], store.blobs)
    assert real.requests("PATCH") - before == 4
    assert store.blobs.get(image.manifest.layers[0].digest) == image.layers[0]


def test_a_deleted_image_is_gone(real: DockerRegistry, client: Registry) -> None:
    ref = push(client, f"{real.host}/delete/me:now", small_image(9))
    assert client.head(ref) is not None
    client.delete(ref)
    assert client.head(ref) is None
    with pytest.raises(NotFound, match="tag 'now'"):
        client.resolve(ref, AMD64)


def test_head_describes_what_a_tag_names(real: DockerRegistry, client: Registry) -> None:
    image = small_image(10)
    assert client.head(push(client, f"{real.host}/head", image)) == image.manifest.descriptor


def test_a_mistyped_tag_is_told_its_near_miss(real: DockerRegistry, client: Registry) -> None:
    ref = push(client, f"{real.host}/near:bookworm", small_image(11))
    with pytest.raises(NotFound, match="did you mean bookworm"):
        client.resolve(replace(ref, tag="bokworm"), AMD64)


def test_an_unknown_repository_is_called_that(real: DockerRegistry, client: Registry) -> None:
    with pytest.raises(NotFound, match="has no repository no/such"):
        client.resolve(Reference.parse(f"{real.host}/no/such:1"), AMD64)


def test_a_push_may_be_checked_before_there_is_anything_to_push(
    real: DockerRegistry, client: Registry
) -> None:
    client.check_push(Reference.parse(f"{real.host}/check"))


def test_a_layer_that_is_nowhere_ends_the_push_with_its_digest(
    real: DockerRegistry, client: Registry
) -> None:
    image = small_image(12, layers=(2000,))
    ref = Reference.parse(f"{real.host}/incomplete")
    with pytest.raises(NotFound, match=image.manifest.layers[0].digest):
        client.push(ref, image.manifest.raw, image.manifest.media_type, image.push_blobs(lazy=True))
    assert client.head(ref) is None


def test_a_manifest_of_an_index_entry_is_fetched_as_it_is(real: DockerRegistry, client: Registry) -> None:
    image = small_image(13)
    ref = push(client, f"{real.host}/asis", image)
    fetched = client.fetch_manifest(ref.with_digest(image.manifest.digest))
    assert isinstance(fetched, Manifest)
    assert fetched == image.manifest


def test_an_empty_blob_is_pushed(real: DockerRegistry, client: Registry) -> None:
    image = small_image(14, layers=(0,))
    ref = Reference.parse(f"{real.host}/empty")
    blobs: list[PushBlob] = image.push_blobs()
    assert client.push(ref, image.manifest.raw, image.manifest.media_type, blobs).uploaded == 2


# bcrypt of "secret", cheapest cost
HTPASSWD = "bob:$2b$04$Snz2qsZ/CYrP66RYoE.uauJr/dSVK.h5f8xUw4ptPoeBxNT4tqp/e\n"


def test_a_login_opens_a_closed_registry(tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path, htpasswd=HTPASSWD) as server:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {server.host: {"username": "bob", "password": "secret"}}}))
        image = small_image(15)
        with Registry(RegistryOptions(credential_files=(config,))) as client:
            ref = push(client, f"{server.host}/closed", image)
            assert client.resolve(ref, AMD64).manifest == image.manifest
        with Registry() as stranger, pytest.raises(Unauthorized, match="no credentials"):
            stranger.check_push(ref)


def test_skopeo_takes_what_is_pushed_and_its_copy_resolves(
    real: DockerRegistry, client: Registry, tmp_path: Path, store: Store
) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    image = small_image(16)
    ref = push(client, f"{real.host}/skopeo/from:1", image)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    copy = [skopeo, "--policy", str(policy), "copy", "--preserve-digests"]
    open_registry = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    target = Reference.parse(f"{real.host}/skopeo/to:1")
    subprocess.run(
        [*copy, *open_registry, f"docker://{ref}", f"docker://{target}"], check=True, capture_output=True
    )
    assert client.resolve(target, AMD64).manifest == image.manifest
    client.fetch_blobs(target, image.manifest.layers, store.blobs)
