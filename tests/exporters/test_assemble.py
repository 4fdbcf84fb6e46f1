from __future__ import annotations

import json
from dataclasses import replace

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import LayerError, UsageError
from minibuild.exporters.annotations import Annotation, Level
from minibuild.exporters.assemble import CREATED, assemble, build_manifest, whole_seconds
from minibuild.exporters.image import Image, ImageLayer
from minibuild.layers.compress import Compression
from minibuild.oci import mediatype
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Index
from minibuild.oci.platform import Platform
from tests.exporters.images import Maker

GZIP = Compression.parse("gzip")


def retyped(layer: ImageLayer, media_type: str) -> ImageLayer:
    return replace(layer, descriptor=replace(layer.descriptor, media_type=media_type))


def test_the_manifest_names_the_configuration_and_every_layer(image: Image) -> None:
    manifest, config = build_manifest(image)
    assert manifest.config == Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config))
    assert manifest.layers == tuple(layer.descriptor for layer in image.layers)


def test_the_configuration_is_written_whole(image: Image) -> None:
    _, config = build_manifest(image)
    assert json.loads(config)["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]


def test_equal_images_have_equal_documents(image: Image) -> None:
    assert assemble([image]) == assemble([replace(image)])


def test_docker_media_types_are_used_throughout(make: Maker) -> None:
    layer = make.layer({"one": b"1"}, compression=GZIP)
    manifest, _ = build_manifest(make.image(layer), media_types="docker")
    assert (manifest.media_type, manifest.config.media_type, manifest.layers[0].media_type) == (
        mediatype.DOCKER_MANIFEST,
        mediatype.DOCKER_CONFIG,
        mediatype.DOCKER_LAYER_GZIP,
    )


def test_docker_media_types_have_no_name_for_zstd(image: Image) -> None:
    with pytest.raises(UsageError) as caught:
        build_manifest(image, media_types="docker")
    assert caught.value.cure == "Use compression=gzip, or oci-mediatypes=true."


def test_a_base_layer_under_a_docker_name_gets_the_oci_name(make: Maker) -> None:
    base = retyped(make.layer({"one": b"1"}, compression=GZIP), mediatype.DOCKER_LAYER_GZIP)
    manifest, _ = build_manifest(make.image(base))
    assert manifest.layers[0].media_type == mediatype.OCI_LAYER_GZIP


def test_a_layer_that_may_not_be_passed_on_becomes_an_ordinary_one(make: Maker) -> None:
    base = retyped(
        make.layer({"one": b"1"}, compression=GZIP),
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
    manifest, _ = build_manifest(make.image(base))
    assert manifest.layers[0].media_type == mediatype.OCI_LAYER_GZIP


def test_annotations_of_where_a_layer_was_fetched_are_dropped(make: Maker) -> None:
    layer = make.layer({"one": b"1"})
    notes = (("containerd.io/distribution.source.docker.io", "library/x"), ("org.example", "kept"))
    layer = replace(layer, descriptor=replace(layer.descriptor, annotations=notes))
    manifest, _ = build_manifest(make.image(layer))
    assert manifest.layers[0].annotations == (("org.example", "kept"),)


def test_a_configuration_of_other_layers_is_refused(image: Image) -> None:
    with pytest.raises(LayerError):
        build_manifest(replace(image, layers=image.layers[:1]))


def test_the_root_says_when_the_image_was_made_to_the_second(image: Image) -> None:
    assert dict(assemble([image]).root.annotations) == {CREATED: "2026-03-04T05:06:07Z"}


def test_an_image_without_a_time_gets_none(make: Maker) -> None:
    image = make.image(make.layer({"one": b"1"}), created="")
    assert assemble([image]).root.annotations == ()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-03-04T05:06:07Z", "2026-03-04T05:06:07Z"),
        ("2026-03-04T05:06:07.123456789Z", "2026-03-04T05:06:07Z"),
        ("2026-03-04T05:06:07+02:00", "2026-03-04T03:06:07Z"),
        ("2026-03-04T05:06:07", ""),
        ("0001-01-01T00:00:00+02:00", ""),
        ("yesterday", ""),
    ],
)
def test_times_are_read_as_rfc_3339(written: str, read: str) -> None:
    assert whole_seconds(written) == read


def test_annotations_go_where_they_are_asked_for(image: Image) -> None:
    assembly = assemble(
        [image],
        annotations=[
            Annotation(Level.MANIFEST, "a", "1"),
            Annotation(Level.MANIFEST_DESCRIPTOR, "b", "2"),
        ],
    )
    assert assembly.manifests[0].annotations == (("a", "1"),)
    assert ("b", "2") in assembly.root.annotations


def test_an_asked_for_created_annotation_wins(image: Image) -> None:
    asked = Annotation(Level.MANIFEST_DESCRIPTOR, CREATED, "never")
    assert dict(assemble([image], annotations=[asked]).root.annotations) == {CREATED: "never"}


def test_one_platform_has_no_index_to_annotate(image: Image) -> None:
    with pytest.raises(UsageError):
        assemble([image], annotations=[Annotation(Level.INDEX, "a", "1")])


def test_docker_media_types_have_no_descriptor_annotations(make: Maker) -> None:
    image = make.image(make.layer({"one": b"1"}, compression=GZIP))
    with pytest.raises(UsageError):
        assemble(
            [image],
            media_types="docker",
            annotations=[Annotation(Level.MANIFEST_DESCRIPTOR, "a", "1")],
        )


def test_an_annotation_for_a_platform_that_is_not_built_is_refused(image: Image) -> None:
    asked = Annotation(Level.MANIFEST, "a", "1", Platform("linux", "s390x"))
    with pytest.raises(UsageError) as caught:
        assemble([image], annotations=[asked])
    assert "linux/s390x" in caught.value.message


def test_several_platforms_make_an_index(make: Maker) -> None:
    layer = make.layer({"one": b"1"})
    images = [make.image(layer, platform=name) for name in ("linux/amd64", "linux/arm64")]
    assembly = assemble(images, annotations=[Annotation(Level.INDEX, "a", "1")])
    index = Index.parse(assembly.documents[-1].data)
    assert index.platforms == ("linux/amd64", "linux/arm64")
    assert index.annotations == (("a", "1"),)
    assert assembly.root.digest == index.digest


def test_a_layer_that_platforms_share_is_listed_once(make: Maker) -> None:
    layer = make.layer({"one": b"1"})
    images = [make.image(layer, platform=name) for name in ("linux/amd64", "linux/arm64")]
    assert assemble(images).layers == (layer.descriptor,)
