"""The filesystem of a stage or image as something to copy from: metadata from layer indexes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from minibuild.context.rows import Head, Row, View
from minibuild.context.selection import Selection
from minibuild.layers.entry import Entry, Kind
from minibuild.values import maker

if TYPE_CHECKING:
    from minibuild.layers.merged import Merged, Node

_new_row = maker(Row)  # quicker than a copy with another field


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


class TreeSelection(Selection):
    """A selection from a tree. Rows have an `inode` only where it shows more than once in it."""

    def __init__(
        self,
        view: Callable[[], View],
        pattern: str,
        *,
        exclude: tuple[str, ...] = (),
        parents: bool = False,
        scratch: Callable[[], int],
    ) -> None:
        super().__init__(view, pattern, exclude=exclude, parents=parents, scratch=scratch)
        self._wanted: dict[int, bytearray] = {}

    def wanted(self) -> dict[int, bytearray]:
        """By the numbers of layers: how often the file at each position was selected, 2 for more often."""
        self._find()
        return self._wanted

    def __iter__(self) -> Iterator[Head | Row]:
        wanted = self.wanted()
        again = any(2 in counts for counts in wanted.values())  # mostly nothing is there twice
        for item in super().__iter__():
            if isinstance(item, Row) and item.inode and not (again and self._is_there_twice(item.where)):
                entry, where, stamp, _, leads, newest = item
                item = _new_row((entry, where, stamp, b"", leads, newest))
            yield item

    def _is_there_twice(self, where: bytes) -> bool:
        layer, position = content_place(where)
        return self._wanted[layer][position] > 1

    def _note(self, row: Row) -> None:
        if row.where:
            layer, position = content_place(row.where)
            counts = self._wanted.setdefault(layer, bytearray())
            if position >= len(counts):
                counts.extend(bytes(position + 1 - len(counts)))
            counts[position] = min(counts[position] + 1, 2)


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
