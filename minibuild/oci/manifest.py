"""Image manifests and indexes, OCI and Docker schema 2 (image-spec, manifest.md and image-index.md).

A document from outside keeps its exact bytes beside the parsed form, since its digest is over those bytes.
New documents are written as BuildKit writes them: two-space indent, Go's key order and escapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from minibuild_store.digest import Digest
from minibuild_store.errors import InvalidDigest

from minibuild.errors import LayerError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.mediatype import INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST
from minibuild.oci.platform import Platform
from minibuild.values import dataclass

MAX_DOCUMENT = 4 << 20
"""The most bytes of a manifest that are read; registries take no larger ones (distribution-spec)."""

SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
Annotations = tuple[tuple[str, str], ...]


class InvalidManifest(LayerError):
    """A manifest or index that is malformed, ambiguous, or of a kind no longer read."""


@dataclass(frozen=True, slots=True)
class ForeignDescriptor(Descriptor):
    """A descriptor whose content may also be had from `urls` (image-spec, descriptor.md)."""

    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        document = Descriptor.to_json(self)
        tail: dict[str, object] = {
            key: document.pop(key) for key in ("annotations", "platform") if key in document
        }
        return {**document, "urls": list(self.urls), **tail}


class _Document:
    """What a manifest and an index have in common; `raw` are the exact bytes of either."""

    __slots__ = ()
    media_type: str
    raw: bytes

    def to_bytes(self) -> bytes:
        return self.raw

    @property
    def digest(self) -> Digest:
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class Manifest(_Document):
    """One image for one platform; `raw` are its exact bytes."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Annotations
    raw: bytes

    @classmethod
    def parse(cls, data: bytes, media_type: str = "") -> Manifest:
        """Read a manifest; `media_type` is what the sender called it. Raises `InvalidManifest`."""
        document, kind = _document(data, media_type)
        if kind not in MANIFESTS:
            raise InvalidManifest(f"not an image manifest: its media type is {kind}")
        _refuse_keys(document, "manifests", "a manifest")
        layers = _list(document, "layers")
        return cls(
            kind,
            parse_descriptor(document.get("config"), "config"),
            tuple(parse_descriptor(layer, f"layers[{i}]") for i, layer in enumerate(layers)),
            _annotations(document, "annotations"),
            data,
        )

    @classmethod
    def of(
        cls,
        config: Descriptor,
        layers: Sequence[Descriptor],
        *,
        media_type: str = OCI_MANIFEST,
        annotations: Mapping[str, str] | None = None,
    ) -> Manifest:
        """A new manifest, with the bytes BuildKit would write for it."""
        kept = tuple(sorted((annotations or {}).items()))
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if kept:
            document["annotations"] = dict(kept)
        return cls(media_type, config, tuple(layers), kept, _go_json(document))


@dataclass(frozen=True, slots=True)
class Index(_Document):
    """A list of manifests, one for each platform (and attestations); `raw` are its exact bytes."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Annotations
    raw: bytes

    @classmethod
    def parse(cls, data: bytes, media_type: str = "") -> Index:
        """Read an index; `media_type` is what the sender called it. Raises `InvalidManifest`."""
        document, kind = _document(data, media_type)
        if kind not in INDEXES:
            raise InvalidManifest(f"not an image index: its media type is {kind}")
        for key in ("layers", "config"):
            _refuse_keys(document, key, "an index")
        manifests = _list(document, "manifests")
        return cls(
            kind,
            tuple(parse_descriptor(one, f"manifests[{i}]") for i, one in enumerate(manifests)),
            _annotations(document, "annotations"),
            data,
        )

    @classmethod
    def of(
        cls,
        manifests: Sequence[Descriptor],
        *,
        media_type: str = OCI_INDEX,
        annotations: Mapping[str, str] | None = None,
    ) -> Index:
        """A new index, with the bytes BuildKit would write for it."""
        kept = tuple(sorted((annotations or {}).items()))
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": [one.to_json() for one in manifests],
        }
        if kept:
            document["annotations"] = dict(kept)
        return cls(media_type, tuple(manifests), kept, _go_json(document))

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """The entries that are images: attestations (platform ``unknown/unknown``) left out."""
        return tuple(one for one in self.manifests if not is_attestation(one))

    @property
    def platforms(self) -> tuple[str, ...]:
        """What the index offers, for messages."""
        return tuple(str(one.platform) for one in self.images if one.platform is not None)

    def select(self, platform: Platform) -> Descriptor | None:
        """The entry that serves `platform` best, as containerd's ``platforms.Only`` ranks them, or None.

        An entry that names no platform comes after all that do; the caller must look at its config.
        """
        ranks = {choice: rank for rank, choice in enumerate(compatible(platform))}
        best: Descriptor | None = None
        best_rank = len(ranks) + 1
        for one in self.images:
            rank = len(ranks) if one.platform is None else ranks.get(one.platform.normal(), best_rank)
            if rank < best_rank:
                best, best_rank = one, rank
        return best


def parse_document(data: bytes, media_type: str = "") -> Manifest | Index:
    """Read whichever of the two `data` is; raises `InvalidManifest`."""
    _, kind = _document(data, media_type)
    return Index.parse(data, media_type) if kind in INDEXES else Manifest.parse(data, media_type)


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an index entry is BuildKit's provenance or SBOM and not an image."""
    if any(key == "vnd.docker.reference.type" for key, _ in descriptor.annotations):
        return True
    platform = descriptor.platform
    return platform is not None and platform.os == "unknown" and platform.architecture == "unknown"


def normal(platform: Platform) -> Platform:
    """`platform` with aliases and default variants folded, as `Platform.normal`."""
    return platform.normal()


def compatible(platform: Platform) -> tuple[Platform, ...]:
    """Every platform whose images run on `platform`, best first (containerd's ``platformVector``)."""
    platform = platform.normal()
    os_name, architecture, variant = platform.os, platform.architecture, platform.variant
    if architecture == "amd64":
        older = [f"v{n}" for n in range(_number(variant) - 1, 0, -1)]
        vector = [(architecture, one) for one in (variant, *older)] + [("386", "")]
    elif architecture == "arm":
        older = [f"v{n}" for n in range(_number(variant) - 1, 4, -1)]
        vector = [(architecture, one) for one in (variant, *older)]
    elif architecture == "arm64":
        vector = [(architecture, one) for one in _arm64_variants(variant or "v8")]
        vector += [("arm", f"v{n}") for n in range(8, 4, -1)]
    else:
        vector = [(architecture, variant)]
    ordered = dict.fromkeys(Platform(os_name, name, one).normal() for name, one in vector)
    return tuple(ordered)


def _arm64_variants(variant: str) -> list[str]:
    major_text, _, minor_text = variant.removeprefix("v").partition(".")
    if not major_text.isdigit() or not (minor_text or "0").isdigit():
        return [variant]
    minor = int(minor_text or "0")
    names = [f"v{major_text}.{n}" if n else f"v{major_text}" for n in range(minor, -1, -1)]
    if major_text == "9":  # Armv9.x includes everything of Armv8.(x+5)
        names += [f"v8.{n}" if n else "v8" for n in range(minor + 5, -1, -1)]
    return names


def _number(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() and len(digits) < 3 else 0


def _document(data: bytes, media_type: str) -> tuple[dict[str, object], str]:
    """The JSON object and its media type, checked as far as both kinds of document agree."""
    if len(data) > MAX_DOCUMENT:
        raise InvalidManifest(f"manifest of {len(data)} bytes: the limit is {MAX_DOCUMENT}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"manifest is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidManifest(f"manifest is a JSON {type(document).__name__}, want an object")
    own = document.get("mediaType", "")
    if not isinstance(own, str):
        _bad("mediaType", own, "a string")
    version = document.get("schemaVersion")
    if (version == 1 and version is not True) or media_type in SCHEMA_1 or own in SCHEMA_1:
        raise InvalidManifest(
            "the image has a Docker schema 1 manifest, a format that is no longer read",
            cure="Push the image again with a current tool, or use another tag of it.",
        )
    if version != 2 or isinstance(version, bool):
        _bad("schemaVersion", version, "2")
    known = INDEXES + MANIFESTS
    if own and media_type in known and own != media_type:
        raise InvalidManifest(f"manifest says it is {own}, but was sent as {media_type}")
    kind = own or media_type
    if kind not in known:
        if own:
            raise InvalidManifest(f"media type {own} is neither an image manifest nor an index")
        kind = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    return document, kind


def parse_descriptor(value: object, where: str) -> Descriptor:
    """A descriptor as documents have it; `where` is what messages call it. Raises `InvalidManifest`."""
    if not isinstance(value, dict):
        _bad(where, value, "an object")
    media_type, digest_text, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not media_type:
        _bad(f"{where}.mediaType", media_type, "a media type")
    try:
        digest = Digest.parse(digest_text) if isinstance(digest_text, str) else None
    except InvalidDigest:
        digest = None
    if digest is None:
        _bad(f"{where}.digest", digest_text, "sha256:<64 hex digits>")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        _bad(f"{where}.size", size, "a number of bytes")
    platform = _platform(value.get("platform"), f"{where}.platform")
    annotations = _annotations(value, f"{where}.annotations")
    urls = value.get("urls")
    if not urls:
        return Descriptor(media_type, digest, size, platform, annotations)
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        _bad(f"{where}.urls", urls, "a list of URLs")
    return ForeignDescriptor(media_type, digest, size, platform, annotations, tuple(urls))


def _platform(value: object, where: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        _bad(where, value, "an object")
    parts = [value.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts):
        _bad(where, value, "os, architecture and variant as strings")
    os_name, architecture, variant = map(str, parts)
    return Platform(os_name, architecture, variant) if os_name or architecture else None


def _annotations(document: Mapping[str, object], where: str) -> Annotations:
    value = document.get("annotations")
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        _bad(where, value, "an object of strings")
    return tuple(sorted(value.items()))


def _list(document: Mapping[str, object], key: str) -> list[object]:
    value = document.get(key)
    if value is None:  # Go writes an empty slice as null
        value = [] if key in document else value
    if not isinstance(value, list):
        _bad(key, value, "a list")
    return value


def _refuse_keys(document: Mapping[str, object], key: str, what: str) -> None:
    # one text that reads as two images is how CVE-2021-41190 fooled verifiers
    if document.get(key) is not None:
        raise InvalidManifest(f"ambiguous document: {what} must not have {key!r}")


def _bad(where: str, got: object, want: str) -> NoReturn:
    text = json.dumps(got)
    raise InvalidManifest(
        f"manifest is malformed: {where} is {text if len(text) < 80 else text[:77] + '...'}, want {want}"
    )


def _go_json(document: Mapping[str, object]) -> bytes:
    """As Go's ``json.MarshalIndent(x, "", "  ")``, which escapes what HTML and JavaScript could trip over."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace")
