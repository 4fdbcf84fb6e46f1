"""What a store holds, as the things that can go and what each is worth.

A *thing* is what is evicted as a whole: a layer with its blob, its unpacked form and the steps that give it;
a download; a cache mount; a layer in another compression. `seconds` is what it would cost to have it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError, StoreFull
from minibuild_store.files import tree_size
from minibuild_store.store import Store

from minibuild.cache.steps import StepRecord, read_step
from minibuild.errors import LayerError
from minibuild.layers.form import base_of
from minibuild.oci.config import ImageConfig
from minibuild.values import dataclass, field

Kind = Literal["step", "base", "image", "download", "git", "mount", "variant", "unused"]
KINDS: tuple[Kind, ...] = ("step", "base", "image", "download", "git", "mount", "variant", "unused")

FETCH_RATE = 20e6
"""Bytes a second at which what came over the network is taken to come again."""

UNPACK_RATE = 150e6
_CONVERT_RATE = 50e6


@dataclass(slots=True)
class Thing:
    """One thing. `bytes` counts its blob, `unpacked` its snapshot; `used_ns` is when it was last of use.

    `kept` says what keeps it (``tag NAME``, ``pin``), "" for what may go. `steps` are keys, `names` what
    people know it by.
    """

    kind: Kind
    id: str
    digest: Digest | None = None
    diff_id: str = ""
    bytes: int = 0
    unpacked: int = 0
    seconds: float = 0.0
    used_ns: int = 0
    kept: str = ""
    steps: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def name(self) -> str:
        return self.names[0] if self.names else str(self.digest or self.folder)

    @property
    def total(self) -> int:
        return self.bytes + self.unpacked


@dataclass(slots=True)
class ImageRoot:
    """An image that a name stands for: the blobs it needs and the diff IDs of its layers."""

    name: str
    pulled: bool
    documents: tuple[Digest, ...]
    layers: tuple[Digest, ...]
    diff_ids: tuple[str, ...]
    used_ns: int


class Inventory:
    """Everything in `store`, read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.sizes = _Sizes(store)
        self.blobs = dict(_blob_sizes(store))
        self.steps: dict[str, tuple[StepRecord, int]] = {}
        self.roots = list(_image_roots(store))
        self.pins = frozenset(store.records("pins").names())
        self._by_blob: dict[Digest, Thing] = {}
        self._read_steps()
        self._read_images()
        self._read_urls()
        self._read_variants()
        self._read_rest()
        self._read_snapshots()
        self.things = [*self._by_blob.values(), *self._git(), *self._mounts()]
        for thing in self.things:
            self._mark(thing)
        self.sizes.save()

    @property
    def bytes(self) -> int:
        """What the things take together."""
        return sum(thing.total for thing in self.things)

    def _thing(self, digest: Digest, kind: Kind) -> Thing:
        found = self._by_blob.get(digest)
        if found is None:
            found = Thing(kind, digest.short, digest, bytes=self.blobs.get(digest, 0))
            self._by_blob[digest] = found
        return found

    def _read_steps(self) -> None:
        records = self._store.records("steps")
        for entry in records.entries():
            data = records.get(entry.name)
            record = None if data is None else read_step(data)
            if record is None:
                continue
            self.steps[entry.name] = (record, entry.used_ns)
            digest = record.layer.descriptor.digest
            if digest not in self.blobs:
                continue
            thing = self._thing(digest, "step")
            thing.diff_id = record.layer.diff_id
            thing.steps.append(entry.name)
            thing.names.append(record.name)
            thing.id = entry.name[:12] if len(thing.steps) == 1 else thing.id
            thing.seconds = max(thing.seconds, record.seconds)
            thing.used_ns = max(thing.used_ns, entry.used_ns)

    def _read_images(self) -> None:
        for root in self.roots:
            for digest, diff_id in zip(root.layers, root.diff_ids, strict=False):
                if digest not in self.blobs:
                    continue
                thing = self._thing(digest, "base" if root.pulled else "image")
                thing.diff_id = thing.diff_id or diff_id
                thing.used_ns = max(thing.used_ns, root.used_ns)
                if not thing.steps:
                    thing.seconds = max(thing.seconds, _again(thing.bytes, FETCH_RATE))
                    thing.names.append(root.name)
                if not root.pulled:
                    thing.kept = f"tag {root.name}"
            if root.pulled:
                continue
            for digest in root.documents:
                if digest in self.blobs:
                    thing = self._thing(digest, "image")
                    thing.kept = f"tag {root.name}"
                    thing.names.append(root.name)

    def _read_urls(self) -> None:
        records = self._store.records("urls")
        for entry in records.entries():
            digest = _digest_of(records.get(entry.name))
            if digest is not None and digest in self.blobs:
                thing = self._thing(digest, "download")
                thing.seconds = max(thing.seconds, _again(thing.bytes, FETCH_RATE))
                thing.used_ns = max(thing.used_ns, entry.used_ns)
                thing.names.append(entry.name)

    def _read_variants(self) -> None:
        records = self._store.records("variants")
        for entry in records.entries():
            text = (records.get(entry.name) or b"").decode("utf-8", "replace").partition(" ")[0]
            if text in self.blobs:
                thing = self._thing(Digest(text), "variant")
                thing.diff_id = thing.diff_id or entry.name.partition(" ")[0]
                thing.seconds = max(thing.seconds, _again(thing.bytes, _CONVERT_RATE))
                thing.used_ns = max(thing.used_ns, entry.used_ns)
                thing.names.append(entry.name)

    def _read_rest(self) -> None:
        pulled = {digest for root in self.roots if root.pulled for digest in root.documents}
        for digest in self.blobs:
            if digest not in self._by_blob:
                thing = self._thing(digest, "unused")
                if digest in pulled:  # without them a base would be looked up anew, and might have moved
                    thing.kind, thing.kept = "base", "a base's manifest"

    def _read_snapshots(self) -> None:
        by_diff_id = {Digest(thing.diff_id).hex: thing for thing in self._by_blob.values() if thing.diff_id}
        for name in self._store.snapshots.names():
            thing = by_diff_id.get(base_of(name))
            if thing is not None:
                thing.unpacked += self.sizes.snapshot(name, thing.diff_id)

    def _git(self) -> Iterable[Thing]:
        for name in self._store.snapshots.names():
            if not name.startswith("git-"):
                continue
            size = self.sizes.snapshot(name, "")
            folder = self._store.snapshots.path(name)
            used = os.stat(folder).st_mtime_ns if folder is not None else 0
            seconds = _again(size, FETCH_RATE)
            yield Thing("git", name[4:16], unpacked=size, seconds=seconds, used_ns=used, folder=name)

    def _mounts(self) -> Iterable[Thing]:
        records = self._store.records("mounts")
        used = {entry.name: entry.used_ns for entry in records.entries()}
        for folder in sorted(os.listdir(self._store.caches)):
            name = folder.partition("-")[0]
            when = used.get(name, os.stat(self._store.caches / folder).st_mtime_ns)
            size = self.sizes.mount(self._store.caches / folder, when)
            thing = Thing("mount", folder[:12], unpacked=size, used_ns=when, folder=folder)
            thing.seconds = _again(size, FETCH_RATE)
            thing.names.append(_mount_id(records.get(name)) or folder)
            yield thing

    def _mark(self, thing: Thing) -> None:
        names = {thing.id, str(thing.digest), thing.folder, *thing.steps}
        if not thing.kept and names & self.pins:
            thing.kept = "pin"


class _Sizes:
    """What folders take, remembered: a snapshot never changes, a cache mount only when it is used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._record = store.records("sizes")
        data = self._record.get("folders")
        self._known: dict[str, list[int]] = json.loads(data) if data else {}
        self._seen: dict[str, list[int]] = {}

    def snapshot(self, name: str, diff_id: str) -> int:
        known = self._known.get(name)
        if known is None:
            folder = self._store.snapshots.path(name)
            known = [0, 0 if folder is None else self._measured(folder, diff_id)]
        self._seen[name] = known
        return known[1]

    def mount(self, folder: Path, used_ns: int) -> int:
        known = self._known.get(folder.name)
        if known is None or known[0] != used_ns:
            known = [used_ns, tree_size(str(folder))]
        self._seen[folder.name] = known
        return known[1]

    def _measured(self, folder: Path, diff_id: str) -> int:
        # the index knows also what is in folders that this user may not read
        from minibuild.layers.entry import Kind as EntryKind
        from minibuild.layers.index import LayerIndex

        data = self._store.records("indexes").get(diff_id) if diff_id else None
        if data is not None:
            try:
                index = LayerIndex.load(data)
                return sum(
                    -(-entry.size // 4096) * 4096 for entry in index.entries if entry.kind is EntryKind.FILE
                )
            except LayerError:
                pass
        return tree_size(str(folder))

    def save(self) -> None:
        if self._seen != self._known:
            with suppress(StoreFull):  # who makes room on a full disk has to know what there is
                self._record.put("folders", json.dumps(self._seen, separators=(",", ":")).encode())


def _again(count: int, rate: float) -> float:
    return 0.1 + count / rate


def _blob_sizes(store: Store) -> Iterable[tuple[Digest, int]]:
    for digest in store.blobs:
        size = store.blobs.size(digest)
        if size is not None:
            yield digest, size


def _image_roots(store: Store) -> Iterable[ImageRoot]:
    for kind, pulled in (("images", False), ("pulls", True)):
        records = store.records(kind)
        for entry in records.entries():
            root = _image_root(store, entry.name, records.get(entry.name), pulled, entry.used_ns)
            if root is not None:
                yield root


def _image_root(store: Store, name: str, data: bytes | None, pulled: bool, used_ns: int) -> ImageRoot | None:
    try:
        document = json.loads(data or b"")
        manifest, config = Digest.parse(document["manifest"]), Digest.parse(document["config"])
        layers = tuple(Digest.parse(layer["digest"]) for layer in document["layers"])
    except (ValueError, KeyError, TypeError, StoreError):
        return None
    try:
        diff_ids = tuple(str(one) for one in ImageConfig.parse(store.blobs.get(config)).diff_ids)
    except (ValueError, StoreError, LayerError):
        diff_ids = ()
    return ImageRoot(name, pulled, (manifest, config), layers, diff_ids, used_ns)


def _digest_of(data: bytes | None) -> Digest | None:
    try:
        return Digest.parse(json.loads(data or b"")["digest"])
    except (ValueError, KeyError, TypeError, StoreError):
        return None


def _mount_id(data: bytes | None) -> str:
    try:
        return str(json.loads(data or b"")["id"]).removeprefix("/")
    except (ValueError, KeyError, TypeError):
        return ""
