from __future__ import annotations

import gzip
import hashlib
import itertools
from dataclasses import replace

import pytest
from minibuild_store.errors import BlobNotFound
from minibuild_store.store import Store

from minibuild.errors import LayerError
from minibuild.exporters.image import Image, ImageLayer
from minibuild.exporters.recompress import VARIANTS, with_compression, without_zstd
from minibuild.layers.compress import DEFAULT, Compression, decompressor
from minibuild.oci import mediatype
from minibuild.oci.descriptor import Descriptor
from tests.exporters.images import Maker, StoredBlobs

GZIP = Compression.parse("gzip")
PLAIN = Compression.parse("uncompressed")


def diff_id(layer: ImageLayer, store: Store) -> str:
    with store.blobs.open_verified(layer.descriptor.digest, layer.descriptor.size) as file:
        reader = decompressor(file, layer.descriptor.media_type)
        state = hashlib.sha256()
        while chunk := reader.read(1 << 20):
            state.update(chunk)
    return "sha256:" + state.hexdigest()


@pytest.mark.parametrize("wanted", [GZIP, PLAIN, Compression("zstd", 9), Compression("gzip", 9)])
@pytest.mark.parametrize("held", [DEFAULT, GZIP, PLAIN])
def test_every_conversion_keeps_the_content(
    make: Maker, blobs: StoredBlobs, store: Store, held: Compression, wanted: Compression
) -> None:
    image = make.image(make.layer({"one": b"1" * 3_000_000, "two": b"2"}, compression=held))
    (layer,) = with_compression(image, wanted, force=False, blobs=blobs, store=store).layers
    assert layer.descriptor.media_type == wanted.media_type
    assert diff_id(layer, store) == image.layers[0].diff_id


def test_a_conversion_is_what_would_have_been_written_at_first(
    make: Maker, blobs: StoredBlobs, store: Store
) -> None:
    files = {"one": b"1" * 3_000_000}
    image = make.image(make.layer(files, compression=DEFAULT))
    (layer,) = with_compression(image, GZIP, force=False, blobs=blobs, store=store).layers
    assert layer.descriptor == make.layer(files, compression=GZIP).descriptor


def test_an_uncompressed_layer_is_its_diff_id(image: Image, blobs: StoredBlobs, store: Store) -> None:
    converted = with_compression(image, PLAIN, force=False, blobs=blobs, store=store)
    assert [layer.descriptor.digest for layer in converted.layers] == [one.diff_id for one in image.layers]


def test_layers_compressed_so_already_stay(image: Image, blobs: StoredBlobs, store: Store) -> None:
    assert with_compression(image, DEFAULT, force=True, blobs=blobs, store=store) is image


def test_base_layers_stay(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    image = make.image(make.layer({"one": b"1"}, base=True), make.layer({"two": b"2"}))
    converted = with_compression(image, GZIP, force=False, blobs=blobs, store=store)
    assert converted.layers[0] == image.layers[0]
    assert converted.layers[1].descriptor.media_type == mediatype.OCI_LAYER_GZIP


def test_base_layers_are_converted_by_force(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    image = make.image(make.layer({"one": b"1"}, base=True))
    converted = with_compression(image, GZIP, force=True, blobs=blobs, store=store)
    assert converted.layers[0].descriptor.media_type == mediatype.OCI_LAYER_GZIP


def test_a_base_layer_under_a_docker_name_counts_as_compressed_so(
    make: Maker, blobs: StoredBlobs, store: Store
) -> None:
    layer = make.layer({"one": b"1"}, compression=GZIP, base=True)
    layer = replace(layer, descriptor=replace(layer.descriptor, media_type=mediatype.DOCKER_LAYER_GZIP))
    image = make.image(layer)
    assert with_compression(image, GZIP, force=True, blobs=blobs, store=store) is image


def test_content_that_is_no_layer_is_left_alone(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    layer = make.layer({"one": b"1"})
    layer = replace(layer, descriptor=replace(layer.descriptor, media_type="application/x-other"))
    image = make.image(layer)
    assert with_compression(image, GZIP, force=True, blobs=blobs, store=store) is image


def test_a_conversion_is_remembered(image: Image, blobs: StoredBlobs, store: Store) -> None:
    first = with_compression(image, GZIP, force=False, blobs=blobs, store=store)
    blobs.asked.clear()
    assert with_compression(image, GZIP, force=False, blobs=blobs, store=store) == first
    assert blobs.asked == []


def test_a_remembered_conversion_that_was_collected_is_made_again(
    image: Image, blobs: StoredBlobs, store: Store
) -> None:
    first = with_compression(image, GZIP, force=False, blobs=blobs, store=store)
    store.blobs.delete(first.layers[0].descriptor.digest)
    assert with_compression(image, GZIP, force=False, blobs=blobs, store=store) == first
    assert store.blobs.has(first.layers[0].descriptor.digest)


@pytest.mark.parametrize("record", [b"", b"sha256:0 7", b"\xff\xfe", b"x y z"])
def test_a_record_that_makes_no_sense_is_made_again(
    image: Image, blobs: StoredBlobs, store: Store, record: bytes
) -> None:
    first = with_compression(image, GZIP, force=False, blobs=blobs, store=store)
    for name in list(store.records(VARIANTS).names()):
        store.records(VARIANTS).put(name, record)
    assert with_compression(image, GZIP, force=False, blobs=blobs, store=store) == first


def test_a_blob_that_does_not_hold_its_diff_id_is_refused(
    make: Maker, blobs: StoredBlobs, store: Store
) -> None:
    layer = replace(make.layer({"one": b"1"}), diff_id=make.layer({"two": b"2"}).diff_id)
    with pytest.raises(LayerError, match=r"holds sha256:\w+, want sha256:"):
        with_compression(make.image(layer), GZIP, force=False, blobs=blobs, store=store)
    assert list(store.records(VARIANTS).names()) == []


def test_a_layer_cut_short_is_refused(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    layer = make.layer({"one": bytes(5000)}, compression=GZIP)
    cut = store.blobs.get(layer.descriptor.digest)[:-20]
    info = store.blobs.put(cut)
    layer = replace(layer, descriptor=Descriptor(layer.descriptor.media_type, info.digest, info.size))
    with pytest.raises(LayerError):
        with_compression(make.image(layer), PLAIN, force=False, blobs=blobs, store=store)


def test_a_missing_blob_ends_the_conversion(make: Maker, store: Store) -> None:
    class Nowhere:
        def path(self, descriptor: Descriptor) -> None:
            raise BlobNotFound(descriptor.digest)

    image = make.image(*(make.layer({str(i): b"1"}) for i in range(5)))
    with pytest.raises(BlobNotFound):
        with_compression(image, GZIP, force=False, blobs=Nowhere(), store=store)


def test_many_layers_come_back_in_their_order(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    image = make.image(*(make.layer({str(i): b"1" * i}) for i in range(12)))
    converted = with_compression(image, GZIP, force=False, blobs=blobs, store=store)
    assert [layer.diff_id for layer in converted.layers] == [layer.diff_id for layer in image.layers]
    assert all(one.descriptor != other.descriptor for one, other in itertools.pairwise(converted.layers))


def test_for_docker_only_zstd_is_converted_and_base_layers_too(
    make: Maker, blobs: StoredBlobs, store: Store
) -> None:
    plain = make.layer({"two": b"2"}, compression=PLAIN)
    image = make.image(make.layer({"one": b"1"}, base=True), plain)
    converted = without_zstd(image, blobs=blobs, store=store)
    assert converted.layers[0].descriptor.media_type == mediatype.OCI_LAYER_GZIP
    assert converted.layers[1] == plain


def test_gzip_is_read_by_the_standard_library(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    image = make.image(make.layer({"one": b"1" * 2_000_000}))
    (layer,) = with_compression(image, GZIP, force=False, blobs=blobs, store=store).layers
    content = gzip.decompress(store.blobs.get(layer.descriptor.digest))
    assert "sha256:" + hashlib.sha256(content).hexdigest() == layer.diff_id
