"""Several layers as one: what they change of the layers below them, in a single layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.merge import MergeLayer, contents
from minibuild.layers.tarblocks import Body
from minibuild.layers.tree import Tree
from minibuild.layers.whiteout import whiteout
from minibuild.layers.writer import LayerWriter

_HELD = 1 << 16


def squash(
    base: Sequence[LayerIndex], layers: Sequence[MergeLayer], writer: LayerWriter, spool: Path
) -> None:
    """Write to `writer` the one layer that does to `base` (lowest first) what `layers` do after each other.

    Folders come sorted, then what is deleted, then the rest in the layers' order: the same layers give the
    same bytes. Larger contents pass through the file `spool`. Raises `LayerError`, and `OSError`.
    """
    first = len(base)
    below = Tree.of(base)
    tree = below.over(*(layer.index for layer in layers))
    deleted = list(gone(below, tree))
    for path in _folders(below, tree, first, deleted):
        node = tree.get(path)
        assert node is not None
        writer.add(node.entry._replace(path=path))
    for path in deleted:
        writer.add(whiteout(path))
    for paths, entry, body in contents(tree, layers, first):
        put(writer, entry._replace(path=paths[0]), body, spool)
        put_links(writer, entry, paths)


def gone(below: Tree, tree: Tree) -> Iterator[bytes]:
    """What `below` has and `tree` has not, of each folder only the folder itself, in one order always."""
    folders = [b""]
    while folders:
        folder = folders.pop()
        for path in below.paths_in(folder):
            if path not in tree:
                yield path
            elif below.is_folder(path) and tree.is_folder(path):
                folders.append(path)


def _folders(below: Tree, tree: Tree, first: int, deleted: Sequence[bytes]) -> list[bytes]:
    """The directories that the layers from `first` on bring, and those that lead to what changes."""
    needed: set[bytes] = set()

    def lead(path: bytes) -> None:
        while path and path not in needed:
            needed.add(path)
            path = path.rpartition(b"/")[0]

    for path, node in tree.walk():
        # a folder that a layer implies and has no entry for counts too
        if node.layer >= first or (node.layer < 0 and below.get(path) != node):
            lead(path if node.entry.kind is Kind.DIR else path.rpartition(b"/")[0])
    for path in deleted:
        lead(path.rpartition(b"/")[0])
    return sorted(needed)


def put(writer: LayerWriter, entry: Entry, body: Body, spool: Path) -> None:
    """Write `entry` with its content, which passes through the file `spool` where it is large."""
    if entry.kind is not Kind.FILE or entry.size <= _HELD:
        writer.add(entry, body.read() if entry.kind is Kind.FILE else None)
        return
    with spool.open("w+b") as file:
        for piece in body.chunks():
            file.write(piece)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        writer.add(entry, file.fileno())


def put_links(writer: LayerWriter, entry: Entry, paths: Sequence[bytes]) -> None:
    """Make the further `paths` names of the file `entry` that was written as the first of them."""
    for path in paths[1:]:
        writer.add(Entry(path, Kind.HARDLINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime_ns, paths[0]))
