"""The filesystem of a stage or image as something to copy from: metadata from layer indexes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minibuild.context.rows import Row
from minibuild.layers.entry import Entry, Kind

if TYPE_CHECKING:
    from minibuild.layers.merged import Merged, Node


class TreeView:
    """A merged tree as a `View`. A file's content is named ``layer:position``, as in the layers' indexes."""

    def __init__(self, tree: Merged) -> None:
        self._tree = tree

    def resolve(self, path: bytes) -> bytes:
        return self._tree.resolve(path)

    def entry(self, path: bytes) -> Entry | None:
        node = self._tree.get(path)
        return None if node is None else node.entry

    def names(self, path: bytes) -> list[bytes]:
        return self._tree.children(path)

    def walk(self, path: bytes) -> Iterator[Row]:
        start = len(path) + 1 if path else 0
        for below, node in self._tree.walk(path):
            yield _row(node, below[start:])


def _row(node: Node, relative: bytes) -> Row:
    entry = node.entry._replace(path=relative)
    if entry.kind is not Kind.FILE:
        return Row(entry, b"")
    where = content_name(node.layer, node.position)
    return Row(entry, where, inode=where)


def content_name(layer: int, position: int) -> bytes:
    return b"%d:%d" % (layer, position)


def content_place(name: bytes) -> tuple[int, int]:
    """The layer and the position in it that `content_name` wrote down."""
    layer, _, position = name.partition(b":")
    return int(layer), int(position)
