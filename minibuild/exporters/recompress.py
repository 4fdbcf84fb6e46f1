"""The same layers, compressed otherwise. What was converted once is remembered in the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobNotFound, InvalidDigest, store_error
from minibuild_store.store import Store

from minibuild.errors import LayerError
from minibuild.exporters.assemble import oci_layer_type
from minibuild.exporters.image import BlobSource, Image, ImageLayer
from minibuild.layers.compress import CHUNK, Compression, decompressor
from minibuild.oci import mediatype
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.parallel import run_all, stop_if
from minibuild.values import replace

VARIANTS: Final = "variants"
"""The kind of record that says which blob holds a diff ID under a compression."""

_PARALLEL: Final = 2  # each conversion keeps three threads busy
_GREEDY: Final = 16  # zstd's levels from here on need up to 90 MB each
_ALGORITHMS: Final = {
    mediatype.OCI_LAYER: "uncompressed",
    mediatype.OCI_LAYER_GZIP: "gzip",
    mediatype.OCI_LAYER_ZSTD: "zstd",
}


def with_compression(
    image: Image, compression: Compression, *, force: bool, blobs: BlobSource, store: Store
) -> Image:
    """`image` with every layer under `compression`; layers of the base image only with `force`.

    A layer that is compressed so already stays, except that a layer built here is compressed again
    for a level that is not the usual one. Raises `LayerError` for a blob that does not hold its
    diff ID, `BlobDamaged` where that is because its bytes have changed, and what `blobs.path` raises.
    """
    usual = compression == Compression.parse(compression.algorithm)

    def wanted(layer: ImageLayer) -> Compression | None:
        held = algorithm(layer)
        if held is None or (layer.base and not force):
            return None
        if held == compression.algorithm and (usual or layer.base):
            return None
        return compression

    return _converted(image, wanted, blobs, store)


def without_zstd(image: Image, *, blobs: BlobSource, store: Store) -> Image:
    """`image` with zstd layers, also those of its base, turned into gzip: for Docker's media types."""
    gzip = Compression.parse("gzip")
    return _converted(image, lambda layer: gzip if algorithm(layer) == "zstd" else None, blobs, store)


def algorithm(layer: ImageLayer) -> str | None:
    """How a layer is compressed: ``zstd``, ``gzip`` or ``uncompressed``; None for an unknown media type."""
    return _ALGORITHMS.get(oci_layer_type(layer.descriptor.media_type))


def _converted(
    image: Image, wanted: Callable[[ImageLayer], Compression | None], blobs: BlobSource, store: Store
) -> Image:
    choices = {layer: choice for layer in image.layers if (choice := wanted(layer)) is not None}
    if not choices:
        return image
    done: dict[ImageLayer, ImageLayer] = {}

    def job(layer: ImageLayer, compression: Compression) -> Callable[[threading.Event], None]:
        def run(stop: threading.Event) -> None:
            done[layer] = _variant(layer, compression, blobs, store, stop)

        return run

    greedy = any(choice.algorithm == "zstd" and (choice.level or 0) >= _GREEDY for choice in choices.values())
    run_all([job(layer, choice) for layer, choice in choices.items()], 1 if greedy else _PARALLEL)
    return replace(image, layers=tuple(done.get(layer, layer) for layer in image.layers))


def _variant(
    layer: ImageLayer,
    compression: Compression,
    blobs: BlobSource,
    store: Store,
    stop: threading.Event,
) -> ImageLayer:
    records = store.records(VARIANTS)
    name = f"{layer.diff_id} {compression.algorithm} {compression.level}"
    with store.lock(f"variant {name}", waiting=lambda: stop_if(stop)):
        info = _remembered(records.get(name), store)
        if info is None:
            info = _convert(layer, compression, blobs, store, stop)
            records.put(name, f"{info.digest} {info.size}".encode())
        else:
            records.touch(name)
    descriptor = Descriptor(compression.media_type, info.digest, info.size)
    return replace(layer, descriptor=descriptor)


def _remembered(record: bytes | None, store: Store) -> BlobInfo | None:
    if record is None:
        return None
    digest_text, _, size_text = record.decode("utf-8", "replace").partition(" ")
    try:
        info = BlobInfo(Digest.parse(digest_text), int(size_text))
    except (InvalidDigest, ValueError):
        return None
    store.blobs.session.hold(info.digest)  # before the look: a gc may be running
    return info if store.blobs.has(info.digest, info.size) else None


def _convert(
    layer: ImageLayer,
    compression: Compression,
    blobs: BlobSource,
    store: Store,
    stop: threading.Event,
) -> BlobInfo:
    from minibuild_store import turns

    from minibuild.layers.sink import LayerSink

    path = blobs.path(layer.descriptor)
    with path.open("rb") as file, turns.working(), store.blobs.writer() as writer:
        reader = decompressor(file, layer.descriptor.media_type)
        sink = LayerSink(writer.fd, compression)
        try:
            while chunk := reader.read(CHUNK):
                stop_if(stop)
                sink.write(chunk)
            result = sink.close()
            if result.diff_id != layer.diff_id:
                raise LayerError(
                    f"layer {layer.descriptor.digest} holds {result.diff_id}, want {layer.diff_id}",
                    cure="The image is faulty: make or pull it again, or use another.",
                )
        except LayerError:
            with suppress(BlobNotFound):
                store.blobs.check(layer.descriptor.digest, anew=True)  # it may be the disk's fault
            raise
        except OSError as error:
            raise store_error(error, str(store.root)) from error
        finally:
            sink.abort()
        return writer.commit_hashed(BlobInfo(result.digest, result.size))
