"""Layers that nobody wrote: what COPY and WORKDIR would give, entry by entry, and stand-ins for the rest.

A layer here is an identity in place of a diff ID and, where it can be known, the files in it. What a RUN
writes is not known: its layer is a *stand-in*, and so is everything of which it lies below.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Literal

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.context.placed import Placed
from minibuild.context.selection import Selected
from minibuild.engine.fetched import Fetched
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerforms import Layers
from minibuild.engine.session import Session
from minibuild.engine.sources import TreeFiles
from minibuild.errors import LayerError
from minibuild.lab.view import UNTIMED, GitFiles
from minibuild.layers.entry import Kind
from minibuild.layers.index import KEPT_FILES, LayerIndex
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.mediatype import OCI_LAYER_ZSTD
from minibuild.plan.steps import GitItem, UrlItem
from minibuild.values import dataclass

RunOutput = Literal["new", "same"]
"""What a RUN that runs again is taken to write: something never seen, or the same as ever."""


class Unknown(LayerError):
    """Something depends on files that only executing would show."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a layer: its index, and the SHA-256 of each regular file by its position there."""

    index: LayerIndex
    digests: tuple[str, ...]


@dataclass(slots=True)
class LabLayer:
    """A layer by its identity. `make` gives its files the first time they are asked for.

    Without `make` they are not known. `bytes` are those of its files, 0 where nobody knows.
    """

    layer: Layer
    bytes: int = 0
    make: Callable[[], Contents] | None = None
    contents: Contents | None = None

    def known(self) -> Contents:
        """The files; raises `Unknown`."""
        if self.contents is None:
            if self.make is None:
                raise Unknown("what a step wrote is not known without executing it")
            self.contents = self.make()
        return self.contents


LayerTable = dict[str, LabLayer]
"""Every layer of a replay, by its identity."""


def layer_called(*words: object) -> Layer:
    """A layer whose identity is the digest of `words`."""
    text = json.dumps(words, default=str)
    digest = Digest("sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())
    return Layer(digest, Descriptor(OCI_LAYER_ZSTD, digest, 0))


class LabStandIns:
    """For one commit: turns what a step placed into a layer of `table`, with no byte written.

    `commit_ns` is the time of whatever comes from the context.
    """

    def __init__(self, table: LayerTable, commit_ns: int, files: GitFiles, layers: LabLayers) -> None:
        self._table = table
        self._commit_ns = commit_ns
        self._files = files
        self._layers = layers
        self.source: Filesystem | None = None
        """The filesystem that is copied from while a step is placed; None for the context."""

    def layer(self, placed: Sequence[Placed]) -> Layer:
        """The exact layer of `placed`: its identity is made of every entry's metadata and content."""
        contents = self.contents(placed)
        total = hashlib.sha256()
        for entry, digest in zip(contents.index.entries, contents.digests, strict=True):
            total.update(repr((*entry, digest)).encode())
        layer = layer_called("exact", total.hexdigest())
        size = sum(entry.size for entry in contents.index.entries)
        self._table.setdefault(layer.diff_id, LabLayer(layer, size, contents=contents))
        return layer

    def contents(self, placed: Sequence[Placed]) -> Contents:
        entries = [
            one.entry._replace(mtime_ns=self._commit_ns) if one.entry.mtime_ns == UNTIMED else one.entry
            for one in placed
        ]
        kept = {
            one.entry.path: self._data(one)
            for one in placed
            if one.entry.path in KEPT_FILES and one.entry.kind is Kind.FILE
        }
        return Contents(LayerIndex.of(entries, kept), tuple(self._content(one) for one in placed))

    def _data(self, placed: Placed) -> bytes:
        if isinstance(placed.data, bytes):
            return placed.data
        if self.source is not None:
            raise Unknown("who the users of the image are is not known without reading a file")
        return self._files.data(placed.where)

    def _content(self, placed: Placed) -> str:
        if placed.entry.kind is not Kind.FILE:
            return ""
        if isinstance(placed.data, bytes):
            return hashlib.sha256(placed.data).hexdigest()
        if self.source is not None:
            return self._layers.content(self.source, placed.where)
        return self._files.sha256(placed.where)

    def fetched(self, item: UrlItem | GitItem) -> Fetched:
        """What is behind an address counts as the same for ever; the files of it are not known."""
        return Fetched(identity=repr(item))


class LabLayers(Layers):
    """The layers of a replay; those of base images where the store has them."""

    def __init__(self, session: Session, table: LayerTable) -> None:
        super().__init__(
            session.store,
            registry=session.registry,
            sandbox=session.sandbox,
            pulled=session.pulled,
        )
        self._table = table
        self._held = session.store

    def _known_index(self, layer: Layer) -> LayerIndex | None:
        lab = self._table.get(layer.diff_id)
        if lab is not None:
            return lab.known().index
        descriptor = layer.descriptor
        if self._held.records("indexes").get(layer.diff_id) is None and not self._held.blobs.has(
            descriptor.digest, descriptor.size
        ):
            raise Unknown("the files of a base image are not here")
        return super()._known_index(layer)

    def at_hand(self, layer: Layer) -> bool:
        return True  # nothing is fetched

    def content(self, filesystem: Filesystem, where: bytes) -> str:
        """The SHA-256 of the file that a tree of `filesystem` calls `where` (``layer:position``)."""
        number, _, position = where.partition(b":")
        layer = filesystem.layers[int(number)]
        lab = self._table.get(layer.diff_id)
        if lab is not None:
            return lab.known().digests[int(position)]
        return f"{layer.diff_id} {position.decode()}"  # as good as its content: bases are pinned

    def is_known(self, filesystem: Filesystem) -> bool:
        """Whether every file of `filesystem` is known."""
        try:
            self.tree(filesystem)
        except Unknown:
            return False
        return True


class LabTreeFiles(TreeFiles):
    """A stage's or an image's files to copy from; content digests of unknown ones are stand-ins.

    `place` names the stage. `noticed` is called when a stand-in is given out.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        layers: LabLayers,
        store: Store,
        *,
        place: str,
        output: RunOutput,
        noticed: Callable[[], None],
    ) -> None:
        super().__init__(filesystem, layers, store)
        self._lab = layers
        self._place = place
        self._output = output
        self._noticed = noticed

    def known_digest(self, selection: str) -> str | None:
        if self._lab.is_known(self.filesystem):
            return None
        self._noticed()
        text = self.filesystem.chain if self._output == "new" else self._place
        return hashlib.sha256(f"stand-in\n{text}\n{selection}".encode("utf-8", "surrogateescape")).hexdigest()

    def digest(
        self,
        selection: str,
        survey: Selected,
        *,
        modes: bool = True,
        sums: Callable[[bytes], str] | None = None,
    ) -> str:
        return self._content(survey, sums or self.sums([survey]), modes=modes)[0]

    def sums(self, surveys: Sequence[Selected]) -> Callable[[bytes], str]:
        return lambda where: self._lab.content(self.filesystem, where) if where else ""
