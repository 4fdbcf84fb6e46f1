"""An OCI image layout as one tar stream.

Names are sorted, owners 0, times 0, as containerd writes them: equal images give equal archives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from minibuild.exporters.assemble import Assembly
from minibuild.exporters.gather import local_files
from minibuild.exporters.image import BlobSource, ExportResult
from minibuild.exporters.index import INDEX_FILE, LAYOUT_BYTES, LAYOUT_FILE, named, new_index
from minibuild.exporters.target import Destination, label, output_file
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import END, header, padding
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.values import NamedTuple


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
    kind: str = "oci",
    extra: Mapping[str, bytes] = MappingProxyType({}),
) -> ExportResult:
    """Write the image as a tar of an OCI layout to a file or a binary stream; raises `OutputError`.

    `extra` are further files of the archive, by name. An image without a name
    has none in the index either, as in BuildKit's archives.
    """
    files = local_files(assembly.layers, blobs)
    members = {
        LAYOUT_FILE: _Member(0o444, LAYOUT_BYTES),
        INDEX_FILE: _Member(0o644, new_index(named(assembly.root, names))),
        **{name: _Member(0o644, data) for name, data in extra.items()},
        **{blob_name(layer): _Member(0o444, layer) for layer in assembly.layers},
        **{blob_name(descriptor): _Member(0o444, data) for descriptor, data in assembly.documents},
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


def blob_name(descriptor: Descriptor) -> str:
    """Where a blob lies in a layout."""
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
