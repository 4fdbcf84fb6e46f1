"""The merged root filesystem of several layers, from their blobs: to a folder or as one tar stream.

Needs no privileges and no unpacked layers: what is there is decided by the merged `Tree`, and each
blob is read once, as far as its last file that shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from minibuild.errors import LayerError
from minibuild.layers.compress import Reader
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.mergefolder import FolderWriter
from minibuild.layers.scan import rows
from minibuild.layers.tarblocks import Body
from minibuild.layers.tarheader import END, header, padding
from minibuild.layers.tree import Node, Tree
from minibuild.values import dataclass

_GATHER = 1 << 20


@dataclass(frozen=True, slots=True)
class MergeLayer:
    """A layer to merge: its index, and how to open its blob at the first byte."""

    index: LayerIndex
    open: Callable[[], AbstractContextManager[Reader]]
    media_type: str | None = None


class Output(Protocol):
    """Where a tar stream goes; it must take every byte."""

    def write(self, data: bytes, /) -> object: ...


def merge_to_tar(
    layers: Sequence[MergeLayer],
    out: Output,
    *,
    prefix: bytes = b"",
    mtime_ns: int | None = None,
    end: bool = True,
) -> None:
    """Write the root filesystem as a tar archive: directories sorted, then the rest in layer order.

    The same layers give the same bytes. With a `prefix` everything lies in a directory of that name,
    and with `end` false the archive is left open for more. `mtime_ns` is put in place of every time.
    The root itself has no entry. Raises `LayerError`, and what `out` raises.
    """
    tree = Tree.of(layer.index for layer in layers)
    writer = _TarWriter(out, prefix, mtime_ns)
    if prefix:
        writer.add(Entry(b"", Kind.DIR, 0o755), b"")
    for path, entry in _folders(tree):
        writer.add(entry, path)
    for paths, entry, body in contents(tree, layers):
        writer.add(entry, paths[0], body)
        for path in paths[1:]:
            writer.link(entry, path, paths[0])
    writer.finish(END if end else b"")


def merge_to_folder(
    layers: Sequence[MergeLayer],
    dest: Path,
    *,
    owners: bool | None = None,
    delete: bool = False,
    mtime_ns: int | None = None,
) -> list[bytes]:
    """Write the root filesystem into the folder `dest`, over what is there.

    A path that exists is replaced by what the image has there, a directory is merged; `delete` removes
    everything else. Symbolic links in `dest` are never followed. Times, modes and extended attributes
    are kept as far as we may, and with `owners` (which None means for root) owners too. `mtime_ns` is
    put in place of every time. Of `dest` itself mode and time are not touched. Returns the paths of
    device nodes that could not be made. Raises `LayerError`, and `OSError` for a fault of the disk.
    """
    tree = Tree.of(layer.index for layer in layers)
    if owners is None:
        owners = os.geteuid() == 0
    with FolderWriter(dest, owners=owners, mtime_ns=mtime_ns) as writer:
        folders = list(_folders(tree))
        for path, _ in folders:
            writer.add_folder(path)
        for paths, entry, body in contents(tree, layers):
            writer.add(entry, paths, body)
        if delete:
            for path in (b"", *(path for path, _ in folders)):
                writer.remove_others(path, tree.children(path))
        for path, entry in reversed(folders):
            writer.finish_folder(path, entry)
        return writer.left_out


def _folders(tree: Tree) -> Iterator[tuple[bytes, Entry]]:
    """Directories below the root, parents first, sorted."""
    for path, node in tree.walk():
        if path and node.entry.kind is Kind.DIR:
            yield path, node.entry


def contents(
    tree: Tree, layers: Sequence[MergeLayer], first: int = 0, *, only: Collection[bytes] | None = None
) -> Iterator[tuple[list[bytes], Entry, Body]]:
    """All but directories, in layer and archive order: the paths that are one file, entry and body.

    `layers` are those of the tree from number `first` on; what is in others is left out, and so is what is
    not in `only` where that is given.
    """
    wanted = [_Wanted(len(layer.index.paths)) for layer in layers]
    for path, node in tree.walk():
        if node.entry.kind is Kind.DIR or node.layer < first:
            continue
        if only is None or path in only:
            wanted[node.layer - first].add(path, node)
    for layer, chosen in zip(layers, wanted, strict=True):
        last = chosen.last
        if last < 0:
            continue
        entries = layer.index.entries
        position = -1
        with layer.open() as blob:
            for position, _, body in rows(blob, layer.media_type):
                if chosen.flags[position]:
                    entry = entries[position]
                    if entry.kind is Kind.FILE and entry.size != body.size:
                        raise _not_as_indexed()
                    yield chosen.paths(position, entry), entry, body
                if position == last:
                    break
        if position != last:
            raise _not_as_indexed()


def _not_as_indexed() -> LayerError:
    return LayerError("a layer is not what its index says", cure="Fetch the image again.")


class _Wanted:
    """The rows of one layer that are to be read, and what paths each of them is at."""

    __slots__ = ("_others", "flags", "last")

    def __init__(self, count: int) -> None:
        self.flags = bytearray(count)
        self.last = -1
        self._others: dict[int, list[bytes]] = {}  # where that is more than the entry's own path

    def add(self, path: bytes, node: Node) -> None:
        position = node.position
        if self.flags[position] or path != node.entry.path:
            own = [node.entry.path] if self.flags[position] else []
            self._others.setdefault(position, own).append(path)
        self.flags[position] = 1
        self.last = max(self.last, position)

    def paths(self, position: int, entry: Entry) -> list[bytes]:
        return self._others.pop(position, None) or [entry.path]


class _TarWriter:
    """Members to bytes; small ones are gathered to larger writes."""

    def __init__(self, out: Output, prefix: bytes, mtime_ns: int | None) -> None:
        self._out = out
        self._prefix = prefix
        self._mtime_ns = mtime_ns
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def add(self, entry: Entry, path: bytes, body: Body | None = None) -> None:
        self._put(header(self._placed(entry, path)))
        if entry.kind is Kind.FILE and body is not None:
            for piece in body.chunks():
                self._put(piece)
            self._put(bytes(padding(entry.size)))

    def link(self, entry: Entry, path: bytes, target: bytes) -> None:
        link = self._placed(entry, path)._replace(
            kind=Kind.HARDLINK, size=0, link=self._below(target), device=(0, 0), xattrs=()
        )
        self._put(header(link))

    def finish(self, tail: bytes) -> None:
        self._put(tail)
        self._flush()

    def _below(self, path: bytes) -> bytes:
        return self._prefix + b"/" + path if self._prefix and path else self._prefix or path

    def _placed(self, entry: Entry, path: bytes) -> Entry:
        mtime_ns = entry.mtime_ns if self._mtime_ns is None else self._mtime_ns
        return entry._replace(path=self._below(path), mtime_ns=mtime_ns)

    def _put(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _GATHER:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            self._out.write(b"".join(self._parts))
        self._parts, self._size = [], 0
