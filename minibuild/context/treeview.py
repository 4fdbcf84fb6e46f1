"""The filesystem of a stage or image as something to copy from: metadata from layer indexes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minibuild.context.rows import Row
from minibuild.layers.entry import Entry, Kind

if TYPE_CHECKING:
    from minibuild.layers.tree import Node, Tree


class TreeView:
    """A `Tree` seen as a `View`. A file's content is named ``layer:position``, as in the layers' indexes."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: bytes) -> bytes:
        return self._tree.resolve(path)

    def entry(self, path: bytes) -> Entry | None:
        node = self._tree.get(path)
        return None if node is None else node.entry

    def names(self, path: bytes) -> list[bytes]:
        return self._tree.children(path)

    def walk(self, path: bytes) -> Iterator[Row]:
        node = self._tree.get(path)
        if node is None:
            return
        yield _row(node, b"")
        if node.entry.kind is Kind.DIR:
            yield from self._below(path, b"")

    def _below(self, full: bytes, relative: bytes) -> Iterator[Row]:
        for name in self._tree.children(full):
            path = full + b"/" + name if full else name
            node = self._tree.get(path)
            if node is None:
                continue
            row = _row(node, relative + b"/" + name if relative else name)
            yield row
            if row.entry.kind is Kind.DIR:
                yield from self._below(path, row.entry.path)


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
