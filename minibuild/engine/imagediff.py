"""Two images compared: layers, files with their bytes, configuration."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from minibuild_store.store import Store

from minibuild.engine.contentdiff import Contents, Sides
from minibuild.engine.filesystem import Layer, image_filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.spool import Spool
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
            FileChanges(
                Contents(session.layers, image_filesystem(old), image_filesystem(new)), store.scratch
            ),
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
    """The paths that differ, sorted; what is told of each is in a file until its turn comes.

    `scratch` gives an empty file's descriptor.
    """

    def __init__(self, contents: Contents, scratch: Callable[[], int]) -> None:
        sides = Sides(contents, scratch)
        rewritten = contents.rewritten(
            (path, was, now)
            for path, was, now in sides
            if was is not None and now is not None and contents.unsure(was, now)
        )
        self._spool = Spool(scratch)
        paths: list[bytes] = []
        places = array("Q")
        for path, was, now in sides:
            change = _change(path, was, now, path in rewritten)
            if change is not None:
                paths.append(path)
                places.append(self._spool.put(tuple(change)))
        order = sorted(range(len(paths)), key=paths.__getitem__)
        self._places = array("Q", (places[number] for number in order))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[FileChange]:
        return (FileChange(*self._spool.value(place)) for place in self._places)


def _change(path: bytes, was: Node | None, now: Node | None, rewritten: bool) -> FileChange | None:
    shown = path.decode("utf-8", "backslashreplace")
    if was is not None and now is not None:
        details = _details(was.entry, now.entry, rewritten)
        return FileChange("changed", shown, _size(now) - _size(was), details) if details else None
    if now is not None:
        return FileChange("added", shown, _size(now))
    assert was is not None
    return FileChange("removed", shown, -_size(was))


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
