"""What a shared cache holds, as one document: which key leads to which layer (format: docs/cache.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from minibuild_store.digest import Digest
from minibuild_store.errors import InvalidDigest

from minibuild.cache.mounts import CachedMount, read_identity
from minibuild.errors import MinibuildError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.oci.mediatype import OCI_MANIFEST
from minibuild.values import NamedTuple

FORMAT = "minibuild-cache"
VERSION = 1
CONFIG_TYPE = "application/vnd.minibuild.cache.v1+json"
ANNOTATION = "vnd.minibuild.cache.v1"
BUILDKIT_TYPES = ("application/vnd.buildkit.cacheconfig.v0",)
EMBEDDED = 1 << 20
"""Up to this size the document is in the manifest too (descriptor.md, `data`): one request gives both."""

_MOST = 64 << 20


class InvalidCache(MinibuildError):
    """What was read is no cache of ours, or is damaged."""


class CachedStep(NamedTuple):
    """A key and what it leads to; `created` and `seconds` as in `StepRecord`."""

    key: str
    layer: Layer
    created: float
    seconds: float
    name: str


class CacheDocument(NamedTuple):
    """All steps of a cache, its cache mounts, and what spares or explains work.

    `notes` are what selections of files in stages had as content digests; `build` says what the steps were
    made of (`cache.lastbuild`), "" for nothing. `signature` is base64, "" for none (`cache.signing`).
    `bare` are, stage by stage, steps whose layers the cache does not hold: hits for as long as no step
    that is executed needs their files.
    """

    steps: tuple[CachedStep, ...]
    notes: Mapping[str, str] = {}
    mounts: tuple[CachedMount, ...] = ()
    build: str = ""
    signature: str = ""
    bare: tuple[tuple[CachedStep, ...], ...] = ()

    def layers(self) -> tuple[Descriptor, ...]:
        """The blobs, each once."""
        held = [step.layer.descriptor for step in self.steps]
        held += [mount.layer.descriptor for mount in self.mounts]
        return tuple({descriptor.digest: descriptor for descriptor in held}.values())

    def dump(self) -> bytes:
        descriptors = self.layers()
        place = {descriptor.digest: number for number, descriptor in enumerate(descriptors)}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "layers": [[one.media_type, one.digest, one.size] for one in descriptors],
            "steps": [
                [
                    step.key,
                    place[step.layer.descriptor.digest],
                    step.layer.diff_id,
                    step.created,
                    step.seconds,
                    step.name,
                ]
                for step in self.steps
            ],
            **_bare_rows(self.bare),
            "notes": dict(sorted(self.notes.items())),
            **({"mounts": [_mount_row(one, place) for one in self.mounts]} if self.mounts else {}),
            **({"build": self.build} if self.build else {}),
            **({"signature": self.signature} if self.signature else {}),
        }
        return json.dumps(document, separators=(",", ":")).encode()


def read_document(data: bytes, layers: Sequence[Descriptor] | None = None) -> CacheDocument:
    """Read a document; one inside an image names its `layers` by their place in the manifest.

    Raises `InvalidCache`.
    """
    if len(data) > _MOST:
        raise InvalidCache(f"it holds {len(data)} bytes of records, more than {_MOST}")
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise InvalidCache("it is not a minibuild cache")
        if document["version"] != VERSION:
            raise InvalidCache(f"it has format {document['version']}, this program reads format {VERSION}")
        if layers is None:
            layers = [_descriptor(one) for one in document["layers"]]
        steps = tuple(_step(one, layers) for one in document["steps"])
        notes = {str(name): str(content) for name, content in document.get("notes", {}).items()}
        mounts = tuple(_mount(one, layers) for one in document.get("mounts", ()))
        build = str(document.get("build", ""))
        signature = str(document.get("signature", ""))
        bare = tuple(tuple(map(_bare_step, stage)) for stage in document.get("bare", ()))
    except InvalidCache:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, InvalidDigest) as error:
        raise InvalidCache(f"its records are damaged: {type(error).__name__}") from None
    trees = {name: text for name, text in notes.items() if name.startswith("tree-")}
    return CacheDocument(steps, trees, mounts, build, signature, bare)


def _descriptor(row: Sequence[Any]) -> Descriptor:
    media_type, digest, size = row
    if not isinstance(size, int) or size < 0:
        raise InvalidCache("its records are damaged: a layer's size is no number")
    return Descriptor(str(media_type), Digest.parse(digest), size)


def _step(row: Sequence[Any], layers: Sequence[Descriptor]) -> CachedStep:
    key, number, diff_id, created, seconds, name = row
    layer = _placed(number, diff_id, layers)
    return CachedStep(str(key), layer, float(created), float(seconds), str(name))


def _bare_rows(stages: Sequence[Sequence[CachedStep]]) -> dict[str, Any]:
    """The rows of steps without layers, for a document; nothing where there are none."""
    rows = [[_bare_row(step) for step in stage] for stage in stages]
    return {"bare": rows} if rows else {}


def _bare_row(step: CachedStep) -> list[Any]:
    diff_id, one = step.layer
    return [step.key, one.media_type, one.digest, one.size, diff_id, step.created, step.seconds, step.name]


def _bare_step(row: Sequence[Any]) -> CachedStep:
    key, media_type, digest, size, diff_id, created, seconds, name = row
    layer = Layer(Digest.parse(diff_id), _descriptor((media_type, digest, size)))
    return CachedStep(str(key), layer, float(created), float(seconds), str(name))


def _placed(number: int, diff_id: str, layers: Sequence[Descriptor]) -> Layer:
    if number < 0:
        raise IndexError(number)
    return Layer(Digest.parse(diff_id), layers[number])


def _mount_row(mount: CachedMount, place: Mapping[Digest, int]) -> list[Any]:
    layer = mount.layer
    return [list(mount.identity), mount.sharing, place[layer.descriptor.digest], layer.diff_id]


def _mount(row: Sequence[Any], layers: Sequence[Descriptor]) -> CachedMount:
    identity, sharing, number, diff_id = row
    return CachedMount(read_identity(identity), str(sharing), _placed(number, diff_id, layers))


def inline_document(held: CacheDocument, diff_ids: Sequence[str]) -> bytes:
    """The document for an image's own steps, for an annotation of its manifest."""
    place = {diff_id: number for number, diff_id in enumerate(diff_ids)}
    rows = [
        [step.key, place[step.layer.diff_id], step.layer.diff_id, step.created, step.seconds, step.name]
        for step in held.steps
        if step.layer.diff_id in place
    ]
    notes = dict(sorted(held.notes.items()))
    document = {
        "format": FORMAT,
        "version": VERSION,
        "steps": rows,
        **_bare_rows(held.bare),
        **({"notes": notes} if notes else {}),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def cache_manifest(document: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The OCI manifest that a registry or layout keeps a cache under."""
    import base64

    config: dict[str, object] = {
        "mediaType": CONFIG_TYPE,
        "digest": Digest.of(document),
        "size": len(document),
    }
    if len(document) <= EMBEDDED:
        config["data"] = base64.b64encode(document).decode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": CONFIG_TYPE,
        "config": config,
        "layers": [Descriptor(one.media_type, one.digest, one.size).to_json() for one in layers],
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


class Found(NamedTuple):
    """What a manifest says of the cache: the document, or the descriptor of the blob that holds it."""

    document: CacheDocument | None
    blob: Descriptor | None = None


def read_manifest(data: bytes) -> Found:
    """Find the cache in a manifest, of a cache or of an image with an inline one; raises `InvalidCache`."""
    try:
        manifest = json.loads(data)
        config = manifest.get("config") or {}
        media_type = config.get("mediaType", "")
        if media_type == CONFIG_TYPE:
            return _read_config(config)
        inline = (manifest.get("annotations") or {}).get(ANNOTATION)
        if inline is not None:
            layers = [_layer(one) for one in manifest["layers"]]
            return Found(read_document(inline.encode(), layers))
        types = {media_type, *(one.get("mediaType", "") for one in manifest.get("manifests") or ())}
    except (ValueError, KeyError, TypeError, AttributeError, InvalidDigest):
        raise InvalidCache("its manifest is damaged") from None
    if types & set(BUILDKIT_TYPES):
        raise InvalidCache("it is a cache of BuildKit's, which minibuild does not read")
    raise InvalidCache("it is an image without an inline cache")


def _layer(document: Mapping[str, Any]) -> Descriptor:
    return Descriptor(document["mediaType"], Digest.parse(document["digest"]), document["size"])


def _read_config(config: Mapping[str, Any]) -> Found:
    import base64

    digest = Digest.parse(config["digest"])
    if "data" not in config:
        return Found(None, Descriptor(CONFIG_TYPE, digest, config["size"]))
    data = base64.b64decode(config["data"], validate=True)
    if Digest.of(data) != digest:
        raise InvalidCache("its records are not what their digest says")
    return Found(read_document(data))
