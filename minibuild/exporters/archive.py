"""An OCI image layout as one tar stream, and Docker's archive, which is the same with a ``manifest.json``.

Names are sorted, owners 0, times 0, as containerd writes them: equal images give equal archives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from minibuild.errors import UsageError
from minibuild.exporters.assemble import Assembly
from minibuild.exporters.gather import local_files
from minibuild.exporters.image import BlobSource, ExportResult
from minibuild.exporters.index import INDEX_FILE, LAYOUT_BYTES, LAYOUT_FILE, named, new_index
from minibuild.exporters.target import Destination, label, output_file
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import END, header, padding
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference

DOCKER_FILE = "manifest.json"


class _Member(NamedTuple):
    """One file of the archive: its bytes, or the blob that holds them."""

    mode: int
    content: bytes | Descriptor


def write_archive(
    assembly: Assembly,
    dest: Destination,
    *,
    blobs: BlobSource,
    names: Sequence[Reference] = (),
) -> ExportResult:
    """Write the image as a tar of an OCI layout to a file or a binary stream; raises `OutputError`."""
    return _write("oci", assembly, dest, blobs, names, {})


def write_docker_archive(
    assembly: Assembly,
    dest: Destination,
    *,
    blobs: BlobSource,
    names: Sequence[Reference] = (),
) -> ExportResult:
    """Write the image for ``docker load``: the same archive with Docker's own table of contents.

    Raises `UsageError` for several platforms, which that table cannot tell apart.
    """
    if len(assembly.manifests) > 1:
        raise UsageError(
            "type=docker holds an image for one platform, and several were built",
            cure="Use type=oci, or build for one --platform.",
        )
    table = {DOCKER_FILE: _Member(0o644, _docker_table(assembly, names))}
    return _write("docker", assembly, dest, blobs, names, table)


def _docker_table(assembly: Assembly, names: Sequence[Reference]) -> bytes:
    manifest = assembly.manifests[0]
    # only a tag can be loaded as one: names by digest are left to the index
    tags = [name.familiar for name in names if name.digest is None]
    entry = {
        "Config": _blob_name(manifest.config),
        "RepoTags": tags or None,
        "Layers": [_blob_name(layer) for layer in manifest.layers],
    }
    return json.dumps([entry], separators=(",", ":")).encode()


def _write(
    kind: str,
    assembly: Assembly,
    dest: Destination,
    blobs: BlobSource,
    names: Sequence[Reference],
    members: dict[str, _Member],
) -> ExportResult:
    files = local_files(assembly.layers, blobs)
    members = {
        LAYOUT_FILE: _Member(0o444, LAYOUT_BYTES),
        INDEX_FILE: _Member(0o644, new_index(named(assembly.root, names))),
        **members,
        **{_blob_name(layer): _Member(0o444, layer) for layer in assembly.layers},
        **{_blob_name(descriptor): _Member(0o444, data) for descriptor, data in assembly.documents},
    }
    folders = {"blobs"} | {name.rpartition("/")[0] for name in members if "/" in name}
    with output_file(dest) as out:
        for name in sorted(folders.union(members)):
            if name in folders:
                out.write(header(Entry(name.encode(), Kind.DIR, 0o755)))
                continue
            mode, content = members[name]
            size = len(content) if isinstance(content, bytes) else content.size
            out.write(header(Entry(name.encode(), Kind.FILE, mode, size=size)))
            if isinstance(content, bytes):
                out.write(content)
            else:
                out.copy(files[content.digest], content)
            out.write(bytes(padding(size)))
        out.write(END)
    return ExportResult(kind, assembly.root, assembly.config, label(dest), tuple(names))


def _blob_name(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
