"""The ``index.json`` of a layout: which names it has and what they point to (image-spec, image-layout.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from minibuild.errors import OutputError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.mediatype import OCI_INDEX
from minibuild.oci.reference import Reference
from minibuild.values import replace

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"

Json = dict[str, object]


def named(root: Descriptor, names: Sequence[Reference], *, unnamed_tag: str = "") -> tuple[Descriptor, ...]:
    """One entry for each name, annotated as containerd and BuildKit do.

    Without names there is one entry: tagged `unnamed_tag`, or bare where that is empty.
    """
    if not names:
        return (_annotated(root, {REF_NAME: unnamed_tag}) if unnamed_tag else root,)
    return tuple(_annotated(root, {IMAGE_NAME: str(name), REF_NAME: _object(name)}) for name in names)


def _object(name: Reference) -> str:
    # the specification's reference name is the tag alone; the whole name is containerd's annotation
    return f"{name.tag}@{name.digest}" if name.digest else name.tag


def _annotated(root: Descriptor, pairs: dict[str, str]) -> Descriptor:
    return replace(root, annotations=tuple(sorted({**dict(root.annotations), **pairs}.items())))


def new_index(entries: Sequence[Descriptor]) -> bytes:
    """An index of just these entries."""
    return _dump(_empty(), [entry.to_json() for entry in entries])


def merged_index(existing: bytes | None, entries: Sequence[Descriptor], *, where: str) -> bytes:
    """`existing` with `entries` added; what had one of their names goes, everything else stays as it is.

    Two entries have the same name where both annotations agree: ``one:latest`` and ``two:latest``
    live side by side. `where` names the file in the `OutputError` for an index that is none.
    """
    document = _empty() if existing is None else _parse(existing, where)
    added = [entry.to_json() for entry in entries]
    taken = {_name(one) for one in added}
    old = document.get("manifests") or []
    if not isinstance(old, list):
        raise _not_an_index(where, "its manifests are no list")
    return _dump(document, [one for one in old if _name(one) not in taken] + added)


def _empty() -> Json:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX}


def _parse(data: bytes, where: str) -> Json:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise _not_an_index(where, f"it is not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise _not_an_index(where, "its schemaVersion is not 2")
    return document


def _not_an_index(where: str, why: str) -> OutputError:
    return OutputError(
        f"{where} is not an image index: {why}",
        cure="Name another folder with dest=, or remove this one.",
    )


def _name(entry: object) -> tuple[object, object]:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(annotations, dict):
        return "", ""
    return annotations.get(REF_NAME, ""), annotations.get(IMAGE_NAME, "")


def _dump(document: Json, manifests: list[object]) -> bytes:
    return json.dumps(
        {**document, "manifests": manifests}, separators=(",", ":"), ensure_ascii=False
    ).encode()
