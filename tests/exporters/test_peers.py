"""What we write, read by tools that nobody here wrote: skopeo and umoci."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.exporters.annotations import Annotation, Level
from minibuild.exporters.archive import write_archive
from minibuild.exporters.assemble import assemble
from minibuild.exporters.docker import write_docker_archive
from minibuild.exporters.image import Image
from minibuild.exporters.layout import write_layout
from minibuild.exporters.recompress import without_zstd
from minibuild.layers.compress import Compression
from minibuild.oci.reference import Reference
from tests.exporters.images import Maker, StoredBlobs

NAME = Reference.parse("registry.example/app:1")
FILES = {"one": b"1\n" * 100_000, "two": b""}


def run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def skopeo(*arguments: str) -> bytes:
    return run("skopeo", "--insecure-policy", *arguments)


def digest_of(place: str) -> str:
    return json.loads(skopeo("inspect", place))["Digest"]


def unpacked(layout: Path, tag: str, bundle: Path) -> dict[str, bytes]:
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *rootless, "--image", f"{layout}:{tag}", str(bundle))
    return {path.name: path.read_bytes() for path in (bundle / "rootfs").iterdir()}


@pytest.fixture
def gzip_image(make: Maker) -> Image:
    gzip = Compression.parse("gzip")
    return make.image(
        make.layer({"one": FILES["one"]}, compression=gzip),
        make.layer({"two": FILES["two"]}, compression=gzip),
    )


def test_skopeo_reads_a_layout_and_finds_the_same_manifest(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    result = write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[NAME])
    assert result.descriptor is not None
    assert digest_of(f"oci:{tmp_path}/out:1") == result.descriptor.digest


def test_skopeo_copies_a_layout_with_every_blob_verified(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    assembly = assemble([image], annotations=[Annotation(Level.MANIFEST, "org.example", "x")])
    write_layout(assembly, tmp_path / "out", blobs=blobs)
    skopeo("copy", f"oci:{tmp_path}/out:latest", f"dir:{tmp_path}/copy")
    assert (tmp_path / "copy/manifest.json").read_bytes() == assembly.manifests[0].to_bytes()


def test_skopeo_adds_to_a_layout_that_we_add_to_again(
    image: Image, gzip_image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_layout(assemble([image]), out, blobs=blobs, names=[NAME])
    skopeo("copy", f"oci:{out}:1", f"oci:{out}:theirs")
    write_layout(assemble([gzip_image]), out, blobs=blobs, names=[Reference.parse("app:3")])
    assert digest_of(f"oci:{out}:theirs") == assemble([image]).root.digest
    assert digest_of(f"oci:{out}:3") == assemble([gzip_image]).root.digest


def test_skopeo_reads_an_archive(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    result = write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs, names=[NAME])
    assert result.descriptor is not None
    assert digest_of(f"oci-archive:{tmp_path}/x.tar:1") == result.descriptor.digest


def test_skopeo_reads_an_archive_without_a_name(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    result = write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    assert result.descriptor is not None
    assert digest_of(f"oci-archive:{tmp_path}/x.tar") == result.descriptor.digest


def test_skopeo_copies_all_platforms(make: Maker, blobs: StoredBlobs, tmp_path: Path) -> None:
    images = [make.image(make.layer({name: b"1"}), platform=f"linux/{name}") for name in ("amd64", "arm64")]
    write_layout(assemble(images), tmp_path / "out", blobs=blobs)
    skopeo("copy", "--all", f"oci:{tmp_path}/out:latest", f"dir:{tmp_path}/copy")
    assert len(list((tmp_path / "copy").glob("*.manifest.json"))) == 2


def test_umoci_unpacks_a_layout(gzip_image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([gzip_image]), tmp_path / "out", blobs=blobs)
    assert unpacked(tmp_path / "out", "latest", tmp_path / "bundle") == FILES


def test_umoci_finds_nothing_to_collect(gzip_image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([gzip_image]), tmp_path / "out", blobs=blobs)
    before = sorted((tmp_path / "out/blobs/sha256").iterdir())
    run("umoci", "gc", "--layout", str(tmp_path / "out"))
    assert sorted((tmp_path / "out/blobs/sha256").iterdir()) == before


def test_umoci_changes_a_layout_and_not_the_store(
    gzip_image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_layout(assemble([gzip_image]), tmp_path / "out", blobs=blobs)
    run("umoci", "config", "--image", f"{tmp_path}/out:latest", "--author", "someone")
    run("umoci", "gc", "--layout", str(tmp_path / "out"))
    assert all(store.blobs.get(layer.descriptor.digest) for layer in gzip_image.layers)


def test_skopeo_reads_a_docker_archive_by_its_tag(
    gzip_image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    assembly = assemble([gzip_image], media_types="docker")
    write_docker_archive(assembly, tmp_path / "x.tar", blobs=blobs, names=[NAME])
    found = json.loads(skopeo("inspect", "--config", f"docker-archive:{tmp_path}/x.tar:{NAME}"))
    assert found["rootfs"]["diff_ids"] == list(gzip_image.config.diff_ids)


def test_a_docker_archive_of_zstd_layers_is_unpacked_after_conversion(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    image = make.image(make.layer({"one": FILES["one"]}), make.layer({"two": FILES["two"]}, base=True))
    assembly = assemble([without_zstd(image, blobs=blobs, store=store)], media_types="docker")
    write_docker_archive(assembly, tmp_path / "x.tar", blobs=blobs, names=[NAME])
    skopeo("copy", f"docker-archive:{tmp_path}/x.tar", f"oci:{tmp_path}/copy:latest")
    assert unpacked(tmp_path / "copy", "latest", tmp_path / "bundle") == FILES
