"""The archive that ``docker load`` takes: an OCI layout with Docker's own table of contents in it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from minibuild.errors import UsageError
from minibuild.exporters.archive import blob_name, write_archive
from minibuild.exporters.assemble import Assembly
from minibuild.exporters.image import BlobSource, ExportResult
from minibuild.exporters.target import Destination
from minibuild.oci.reference import Reference

TABLE = "manifest.json"


def write_docker_archive(
    assembly: Assembly,
    dest: Destination,
    *,
    blobs: BlobSource,
    names: Sequence[Reference] = (),
) -> ExportResult:
    """Write the image to a file or a binary stream; raises `OutputError`.

    Raises `UsageError` for several platforms, which the table of contents cannot tell apart.
    Layers are written as they are: `recompress.without_zstd` makes them what engines can load.
    """
    if len(assembly.manifests) > 1:
        raise UsageError(
            "type=docker holds an image for one platform, and several were built",
            cure="Use type=oci, or build for one --platform.",
        )
    table = {TABLE: _table(assembly, names)}
    return write_archive(assembly, dest, blobs=blobs, names=names, kind="docker", extra=table)


def _table(assembly: Assembly, names: Sequence[Reference]) -> bytes:
    manifest = assembly.manifests[0]
    # only a tag can be loaded as one: names by digest are left to the index
    tags = [name.familiar for name in names if name.digest is None]
    entry = {
        "Config": blob_name(manifest.config),
        "RepoTags": tags or None,
        "Layers": [blob_name(layer) for layer in manifest.layers],
    }
    return json.dumps([entry], separators=(",", ":")).encode()
