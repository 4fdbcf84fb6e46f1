"""Two images compared: layers, files with their bytes, configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from minibuild_store.store import Store

from minibuild.engine.contentdiff import Two
from minibuild.engine.filesystem import Layer, image_filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tree import Node
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference
from minibuild.registry.options import RegistryOptions
from minibuild.values import NamedTuple


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
    files: FileChanges
    config: tuple[ConfigChange, ...]


def diff_images(
    store: Store, before: Reference, after: Reference, *, options: RegistryOptions | None = None
) -> ImageDiff:
    """What has to be done to `before` to have `after`; both are images of this store."""
    images = LocalImages(store)
    old, new = images.get(before), images.get(after)
    with Session(
        store, BuildRequest(context=None, registry=options or RegistryOptions()), lambda _: None
    ) as session:
        session.layers.know(old)
        session.layers.know(new)
        return ImageDiff(
            *_layers(old, new),
            FileChanges(Two.of(session.layers, image_filesystem(old), image_filesystem(new))),
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


class FileChanges:
    """The paths that differ, sorted; each is described when its turn comes, so many take little memory."""

    def __init__(self, two: Two) -> None:
        self._two = two
        self._rewritten = two.rewritten(
            (path, was, now) for path, was, now in two.both() if two.unsure(was, now)
        )
        differ = [path for path, was, now in two.both() if self._details(path, was, now)]
        differ += [path for path, _ in two.was.walk() if path not in two.now]
        differ += [path for path, _ in two.now.walk() if path not in two.was]
        self._paths = sorted(differ)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[FileChange]:
        return map(self._change, self._paths)

    def _change(self, path: bytes) -> FileChange:
        was, now = self._two.was.get(path), self._two.now.get(path)
        shown = path.decode("utf-8", "backslashreplace")
        if was is not None and now is not None:
            details = self._details(path, was, now)
            return FileChange("changed", shown, _size(now) - _size(was), details)
        if now is not None:
            return FileChange("added", shown, _size(now))
        assert was is not None
        return FileChange("removed", shown, -_size(was))

    def _details(self, path: bytes, was: Node, now: Node) -> tuple[str, ...]:
        return _details(was.entry, now.entry, path in self._rewritten)


def _size(node: Node) -> int:
    return node.entry.size if node.entry.kind is Kind.FILE else 0


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
