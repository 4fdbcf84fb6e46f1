"""Two images compared: layers, files with their bytes, configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from minibuild_store.store import Store

from minibuild.engine.filesystem import Filesystem, Layer, image_filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.layerforms import Layers
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tree import Tree
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference
from minibuild.registry.options import RegistryOptions


class FileChange(NamedTuple):
    """A path of the merged filesystem: `change` is added, changed or removed, `bytes` the growth."""

    change: str
    path: str
    bytes: int
    details: tuple[str, ...] = ()


class LayerChange(NamedTuple):
    """A layer that only one image has; `created_by` is its line of history."""

    change: str
    diff_id: str
    bytes: int
    created_by: str


class ConfigChange(NamedTuple):
    field: str
    before: Any
    after: Any


class ImageDiff(NamedTuple):
    layers: tuple[LayerChange, ...]
    shared: int
    files: tuple[FileChange, ...]
    config: tuple[ConfigChange, ...]


def diff_images(
    store: Store, before: Reference, after: Reference, *, options: RegistryOptions | None = None
) -> ImageDiff:
    """What has to be done to `before` to have `after`; both are images of this store."""
    images = LocalImages(store)
    old, new = images.find(before), images.find(after)
    for name, image in ((before, old), (after, new)):
        if image is None:
            raise images.unknown(name)
    assert old is not None and new is not None
    with Session(
        store, BuildRequest(context=None, registry=options or RegistryOptions()), lambda _: None
    ) as session:
        session.layers.know(old)
        session.layers.know(new)
        return ImageDiff(
            *_layers(old, new),
            _files(session.layers, old, new),
            _config(old, new),
        )


def _layers(old: ResolvedImage, new: ResolvedImage) -> tuple[tuple[LayerChange, ...], int]:
    before, after = image_filesystem(old).layers, image_filesystem(new).layers
    shared = 0
    for one, other in zip(before, after, strict=False):
        if one.diff_id != other.diff_id:
            break
        shared += 1
    gone = _described("removed", old, before, shared)
    come = _described("added", new, after, shared)
    return (*gone, *come), shared


def _described(
    change: str, image: ResolvedImage, layers: tuple[Layer, ...], skipped: int
) -> tuple[LayerChange, ...]:
    lines = [line.created_by for line in image.config.history if not line.empty_layer]
    lines += [""] * (len(layers) - len(lines))
    return tuple(
        LayerChange(change, str(layer.diff_id), layer.descriptor.size, line)
        for layer, line in list(zip(layers, lines, strict=False))[skipped:]
    )


def _files(layers: Layers, old: ResolvedImage, new: ResolvedImage) -> tuple[FileChange, ...]:
    before = _entries(layers, old)
    after = _entries(layers, new)
    both = {path: (before[path], after[path]) for path in before.keys() & after.keys()}
    otherwise = rewritten(layers, {path: pair for path, pair in both.items() if unsure(*pair)})
    found = []
    for path in sorted({*before, *after}):
        was, now = before.get(path), after.get(path)
        if was is not None and now is not None:
            details = _details(was.entry, now.entry, path in otherwise)
            if details:
                found.append(_change("changed", path, _size(now) - _size(was), details))
        elif now is not None:
            found.append(_change("added", path, _size(now)))
        elif was is not None:
            found.append(_change("removed", path, -_size(was)))
    return tuple(found)


def _change(change: str, path: bytes, size: int, details: tuple[str, ...] = ()) -> FileChange:
    return FileChange(change, path.decode("utf-8", "backslashreplace"), size, details)


class Found(NamedTuple):
    """A path's entry, and where its content is: the layer and the position in it."""

    entry: Entry
    layer: Layer
    position: int


def _entries(layers: Layers, image: ResolvedImage) -> Mapping[bytes, Found]:
    return entries(layers, image_filesystem(image))


def entries(layers: Layers, filesystem: Filesystem) -> Mapping[bytes, Found]:
    """What is at each path of a filesystem, the root included; nothing for one of no layers."""
    if not filesystem.layers:
        return {}
    tree: Tree = layers.tree(filesystem)
    return {
        path: Found(node.entry, filesystem.layers[node.layer], node.position) for path, node in tree.walk(b"")
    }


def _size(found: Found) -> int:
    return found.entry.size if found.entry.kind is Kind.FILE else 0


def rewritten(layers: Layers, pairs: Mapping[bytes, tuple[Found, Found]]) -> set[bytes]:
    """The paths whose contents differ, of files of one size that come from different layers."""
    from minibuild.layers.scan import digests

    wanted: dict[Layer, set[int]] = {}
    for found in (one for pair in pairs.values() for one in pair):
        wanted.setdefault(found.layer, set()).add(found.position)
    known: dict[tuple[Layer, int], str] = {}
    for layer, positions in wanted.items():
        with layers.reading(layer) as blob:
            answers = digests(blob, layer.descriptor.media_type, positions)
        known.update({(layer, position): digest for position, digest in answers.items()})
    return {
        path
        for path, (was, now) in pairs.items()
        if known[was.layer, was.position] != known[now.layer, now.position]
    }


def unsure(was: Found, now: Found) -> bool:
    """Whether only reading both files tells if they are equal."""
    same = was.entry.kind is now.entry.kind is Kind.FILE and was.entry.size == now.entry.size
    return same and was.layer.diff_id != now.layer.diff_id


def _details(old: Entry, new: Entry, rewritten: bool) -> tuple[str, ...]:
    """What differs between two entries; times do not count."""
    words = []
    if old.kind is not new.kind:
        words.append(f"type {old.kind.name.lower()} → {new.kind.name.lower()}")
    if old.mode != new.mode:
        words.append(f"mode {old.mode:o} → {new.mode:o}")
    if (old.uid, old.gid) != (new.uid, new.gid):
        words.append(f"owner {old.uid}:{old.gid} → {new.uid}:{new.gid}")
    if old.link != new.link and old.kind is new.kind is Kind.SYMLINK:
        words.append(f"link {old.link.decode(errors='replace')} → {new.link.decode(errors='replace')}")
    if old.xattrs != new.xattrs:
        words.append("attributes")
    if old.kind is new.kind is Kind.FILE and old.size != new.size:
        words.append(f"size {old.size} → {new.size}")
    elif rewritten:
        words.append("content")
    return tuple(words)


def _config(old: ResolvedImage, new: ResolvedImage) -> tuple[ConfigChange, ...]:
    before, after = _flat(old), _flat(new)
    return tuple(
        ConfigChange(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def _flat(image: ResolvedImage) -> dict[str, Any]:
    document = json.loads(image.config.to_bytes())
    config = document.pop("config", None) or {}
    flat = {f"config.{name}": value for name, value in config.items() if name not in ("Env", "Labels")}
    for entry in config.get("Env") or ():
        name, _, value = entry.partition("=")
        flat[f"env {name}"] = value
    for name, value in (config.get("Labels") or {}).items():
        flat[f"label {name}"] = value
    for name in ("architecture", "os", "variant", "author", "created"):
        if name in document:
            flat[name] = document[name]
    return flat
