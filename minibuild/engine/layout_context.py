"""A named context of type ``oci-layout://``: an image in a folder of this machine."""

from __future__ import annotations

import json
from pathlib import Path

from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, InvalidDigest
from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.oci.config import ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import ResolvedImage
from minibuild.oci.manifest import Index, Manifest, parse_document
from minibuild.oci.platform import Platform

_REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


def layout_image(store: Store, text: str, platform: Platform) -> ResolvedImage:
    """The image at ``path[:tag|@digest]``; its blobs are brought into the store. Raises `UsageError`."""
    folder, tag, digest = _split(text)
    if not (folder / "oci-layout").is_file():
        raise UsageError(
            f"{folder} is no OCI image layout", cure="It needs the files oci-layout and index.json."
        )
    root = digest or _by_tag(folder, tag)
    manifest, manifest_bytes = _manifest(folder, root, platform)
    config_bytes = _read(folder, manifest.config.digest)
    store.blobs.put(manifest_bytes)
    store.blobs.put(config_bytes)
    for layer in manifest.layers:
        _bring(store, folder, layer)
    return ResolvedImage(
        name=str(folder),
        digest=manifest.digest,
        config=ImageConfig.parse(config_bytes),
        layers=manifest.layers,
    )


def _split(text: str) -> tuple[Path, str, Digest | None]:
    path, at, digest_text = text.partition("@")
    try:
        digest = Digest.parse(digest_text) if at else None
    except InvalidDigest as error:
        raise UsageError(f"oci-layout://{text}: {error}") from None
    head, slash, last = path.rpartition("/")
    name, _, tag = last.partition(":")
    return Path(f"{head}{slash}{name}"), tag or "latest", digest


def _by_tag(folder: Path, tag: str) -> Digest:
    entries = json.loads((folder / "index.json").read_bytes()).get("manifests") or []
    named = {(entry.get("annotations") or {}).get(_REF_NAME): entry for entry in entries}
    entry = named.get(tag)
    if entry is None and len(entries) == 1 and tag == "latest":
        entry = entries[0]
    if entry is None:
        there = ", ".join(sorted(name for name in named if name)) or "none"
        raise UsageError(f"{folder} has no image tagged {tag!r}", cure=f"Tags there: {there}.")
    return Digest.parse(entry["digest"])


def _manifest(folder: Path, digest: Digest, platform: Platform) -> tuple[Manifest, bytes]:
    data = _read(folder, digest)
    document = parse_document(data)
    if isinstance(document, Index):
        chosen = document.select(platform)
        if chosen is None:
            there = ", ".join(document.platforms) or "none"
            raise UsageError(f"{folder} has no image for {platform}", cure=f"Platforms there: {there}.")
        return _manifest(folder, chosen.digest, platform)
    return document, data


def _path(folder: Path, digest: Digest) -> Path:
    return folder / "blobs" / digest.algorithm / digest.hex


def _read(folder: Path, digest: Digest) -> bytes:
    try:
        data = _path(folder, digest).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{folder} lacks blob {digest}: {error.strerror}", cure="Write the layout again."
        ) from None
    if Digest.of(data) != digest:
        raise UsageError(f"blob {digest} of {folder} is damaged", cure="Write the layout again.")
    return data


def _bring(store: Store, folder: Path, layer: Descriptor) -> None:
    if store.blobs.has(layer.digest, layer.size):
        return
    try:
        with _path(folder, layer.digest).open("rb") as file, store.blobs.writer() as blob:
            while chunk := file.read(_CHUNK):
                blob.write(chunk)
            blob.commit(expect=layer.digest, size=layer.size)
    except OSError as error:
        raise UsageError(f"{folder} lacks blob {layer.digest}: {error.strerror}") from None
    except BlobDamaged as error:
        raise UsageError(f"{folder}: {error}", cure="Write the layout again.") from None
