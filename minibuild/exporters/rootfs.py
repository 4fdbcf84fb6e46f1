"""The image's files: as a folder (``type=local``) or as one tar (``type=tar``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from minibuild_store.files import remove_tree
from minibuild_store.store import Store

from minibuild.errors import LayerError, OutputError, UsageError
from minibuild.exporters.gather import local_files
from minibuild.exporters.image import BlobSource, ExportResult, Image, ImageLayer
from minibuild.exporters.target import Destination, label, output_file, reporting, temporary_name
from minibuild.layers.index import LayerIndex
from minibuild.layers.merge import MergeLayer, merge_to_folder, merge_to_tar
from minibuild.layers.mergefolder import FolderWriter
from minibuild.layers.scan import index_blob
from minibuild.oci.manifest import normal

INDEXES: Final = "indexes"
"""The kind of record that holds packed layer indexes by diff ID."""


def write_folder(
    images: Sequence[Image],
    dest: Path,
    *,
    blobs: BlobSource,
    store: Store,
    split: bool | None = None,
    delete: bool = False,
    mtime_ns: int | None = None,
) -> ExportResult:
    """Write the root filesystem into folder `dest`, over what is there; with `delete` nothing else stays.

    Files belong to the caller. With `split` (None: where there are several images) each platform
    gets a folder of its own, such as ``linux_amd64``. A folder that is new appears when it is
    complete. Device nodes that may not be made are named in the result. Raises `OutputError`.
    """
    parts = _parts(images, split)
    with reporting(dest):
        if delete and dest.resolve() == Path("/"):
            raise OutputError("cannot replace everything in /", cure="Name another folder with dest=.")
        layers = [_layers(image, blobs, store) for image in images]
        new = not os.path.lexists(dest)
        dest.parent.mkdir(parents=True, exist_ok=True)
        target = dest.with_name(temporary_name()) if new else dest
        try:
            if new:
                target.mkdir()
            left_out = _merge(layers, parts, target, delete=delete, mtime_ns=mtime_ns)
            if new:
                target.rename(dest)
        except BaseException:
            if new:
                with suppress(OSError):
                    remove_tree(target)
            raise
    return ExportResult("local", dest=str(dest), left_out=tuple(left_out))


def _merge(
    layers: Sequence[Sequence[MergeLayer]],
    parts: Sequence[str],
    dest: Path,
    *,
    delete: bool,
    mtime_ns: int | None,
) -> list[str]:
    left_out: list[str] = []
    for stack, part in zip(layers, parts, strict=True):
        folder = dest / part
        if part:
            folder.mkdir(exist_ok=True)
        missing = merge_to_folder(stack, folder, delete=delete, mtime_ns=mtime_ns)
        left_out += [str(Path(part, os.fsdecode(path))) for path in missing]
    if delete and parts != [""]:
        with FolderWriter(dest, owners=False, mtime_ns=None) as writer:
            writer.remove_others(b"", [part.encode() for part in parts])
    return left_out


def write_tar(
    images: Sequence[Image],
    dest: Destination,
    *,
    blobs: BlobSource,
    store: Store,
    split: bool | None = None,
    mtime_ns: int | None = None,
) -> ExportResult:
    """Write the root filesystem as one tar, owners and times as in the image; raises `OutputError`."""
    parts = _parts(images, split)
    layers = [_layers(image, blobs, store) for image in images]
    with output_file(dest) as out:
        for stack, part in zip(layers, parts, strict=True):
            merge_to_tar(stack, out, prefix=part.encode(), mtime_ns=mtime_ns, end=part == parts[-1])
    return ExportResult("tar", dest=label(dest))


def _parts(images: Sequence[Image], split: bool | None) -> list[str]:
    """The folder of each image below the destination, "" for the destination itself."""
    if not images:
        raise UsageError("there is no image to export")
    if split is None:
        split = len(images) > 1
    if split:
        return [str(normal(image.config.platform)).replace("/", "_") for image in images]
    if len(images) > 1:
        raise UsageError(
            "files of several platforms would overwrite each other in one folder",
            cure="Leave platform-split=false out.",
        )
    return [""]


def _layers(image: Image, blobs: BlobSource, store: Store) -> list[MergeLayer]:
    files = local_files([layer.descriptor for layer in image.layers], blobs)
    return [
        MergeLayer(
            _index(layer, files[layer.descriptor.digest], store),
            _opener(layer, files[layer.descriptor.digest], store),
            layer.descriptor.media_type,
        )
        for layer in image.layers
    ]


def _opener(layer: ImageLayer, path: Path, store: Store) -> Callable[[], AbstractContextManager[BinaryIO]]:
    """What opens the blob; a file of somebody else's is his to look after."""
    digest = layer.descriptor.digest
    return lambda: store.blobs.reading(digest) if path == store.blobs.path(digest) else path.open("rb")


def _index(layer: ImageLayer, path: Path, store: Store) -> LayerIndex:
    records = store.records(INDEXES)
    data = records.get(layer.diff_id)
    if data is not None:
        with suppress(LayerError):  # written by another version
            return LayerIndex.load(data)
    with path.open("rb") as file:
        index = index_blob(file, layer.descriptor.media_type, layer.diff_id)
    records.put(layer.diff_id, index.dump())
    return index
