"""Archives of ``docker save`` before Docker 25, and of whoever writes the like (podman, skopeo, kaniko).

A table of contents, ``manifest.json``, names each image's configuration, layers and tags; there is no
manifest, and layers are plain or gzip. See moby's ``image/spec/v1.2.md``, section "Combined Image JSON".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.layers.compress import CHUNK, DEFAULT, decompressor
from minibuild.layers.sink import LayerSink
from minibuild.oci import mediatype
from minibuild.oci.config import ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import ResolvedImage
from minibuild.oci.manifest import Manifest
from minibuild.oci.reference import Reference
from minibuild.values import NamedTuple

TABLE = "manifest.json"
_CURE = "Write it again: docker save -o FILE IMAGE."


class _Row(NamedTuple):
    config: str
    layers: tuple[str, ...]
    names: tuple[Reference, ...]


def images(store: Store, files: Mapping[str, Path]) -> list[tuple[tuple[Reference, ...], ResolvedImage]]:
    """Bring the images of an archive into the store, layers compressed as builds do; each with its names.

    `files` are the archive's files by name, links included. Raises `UsageError` for what is not whole.
    """
    return [(row.names, _image(store, files, row)) for row in _rows(_file(files, TABLE).read_bytes())]


def _rows(data: bytes) -> list[_Row]:
    try:
        return [
            _Row(
                str(row["Config"]),
                tuple(map(str, row["Layers"] or ())),
                tuple(Reference.parse(name) for name in row.get("RepoTags") or ()),
            )
            for row in json.loads(data)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{TABLE} of the archive is not one of docker's", cure=_CURE) from None


def _image(store: Store, files: Mapping[str, Path], row: _Row) -> ResolvedImage:
    document = _file(files, row.config).read_bytes()
    config = ImageConfig.parse(document)
    if len(config.diff_ids) != len(row.layers):
        raise UsageError(
            f"{row.config} of the archive tells of {len(config.diff_ids)} layers,"
            f" and {TABLE} of {len(row.layers)}",
            cure=_CURE,
        )
    layers = [
        _layer(store, _file(files, name), diff_id, name)
        for name, diff_id in zip(row.layers, config.diff_ids, strict=True)
    ]
    image_id = store.blobs.put(document).digest
    manifest = Manifest.of(Descriptor(mediatype.OCI_CONFIG, image_id, len(document)), layers)
    store.blobs.put(manifest.to_bytes())
    return ResolvedImage(row.config, manifest.digest, config, manifest.layers)


def _layer(store: Store, path: Path, diff_id: Digest, name: str) -> Descriptor:
    with path.open("rb") as file, store.blobs.writer() as blob, LayerSink(blob.fd, DEFAULT) as sink:
        reader = decompressor(file)
        while chunk := reader.read(CHUNK):
            sink.write(chunk)
        found = sink.close()
        if found.diff_id != diff_id:
            raise UsageError(
                f"{name} of the archive is damaged: it holds {found.diff_id}, want {diff_id}", cure=_CURE
            )
        blob.commit_hashed(BlobInfo(found.digest, found.size))
    return Descriptor(DEFAULT.media_type, found.digest, found.size)


def _file(files: Mapping[str, Path], name: str) -> Path:
    path = files.get(name)
    if path is None:
        raise UsageError(f"the archive lacks {name}", cure=_CURE)
    return path
