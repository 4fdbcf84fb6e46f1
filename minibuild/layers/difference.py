"""The difference of two filesystems as one layer: laid over the first it gives the second.

A path counts as changed if anything that a layer tells of it does: kind, mode, owner, time, attributes,
content, and which other names are the same file. What contents are equal is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.merge import MergeLayer, contents
from minibuild.layers.squash import put, put_links
from minibuild.layers.tree import Tree
from minibuild.layers.whiteout import whiteout
from minibuild.layers.writer import LayerWriter


def unlike(lower: Tree, upper: Tree) -> Iterator[bytes]:
    """The paths of `upper` that `lower` has not, or with other metadata; contents do not count yet."""
    for path, node in upper.walk():
        was = lower.get(path)
        if path and (was is None or _told(was.entry) != _told(node.entry)):
            yield path


def complete(found: set[bytes], lower: Tree, upper: Tree) -> None:
    """Add to `found` the paths that have to come along for the same names to be one file as in `upper`."""
    after, before = _several(upper), _several(lower)
    for names in after:
        if not found.isdisjoint(names):
            found |= names
    same = {}
    for names in before:
        left = {path for path in names if path in upper} - found  # those that stay the same file
        same.update(dict.fromkeys(left, left))
    for names in after:
        if found.isdisjoint(names) and any(same.pop(path, {path}) != names for path in names):
            found |= names
    found.update(path for path, left in same.items() if left != {path})


def write_difference(
    upper: Tree,
    layers: Sequence[MergeLayer],
    changed: Collection[bytes],
    deleted: Sequence[bytes],
    writer: LayerWriter,
    spool: Path,
) -> None:
    """Write the layer that makes `upper` of what lies below; `layers` are those of `upper`.

    `changed` is complete, `deleted` as `squash.gone` has it. Folders come sorted, then what is deleted, then
    the rest in the layers' order. Larger contents pass through the file `spool`. Raises `LayerError`, and
    `OSError`.
    """
    for path in _folders(upper, changed, deleted):
        node = upper.get(path)
        assert node is not None
        writer.add(node.entry._replace(path=path))
    for path in deleted:
        writer.add(whiteout(path))
    for paths, entry, body in contents(upper, layers, only=changed):
        put(writer, entry._replace(path=paths[0]), body, spool)
        put_links(writer, entry, paths)


def _told(entry: Entry) -> Entry:
    """What counts of an entry; where it lies in the archive does not, nor a folder's size."""
    return entry._replace(path=b"", size=entry.size if entry.kind is Kind.FILE else 0)


def _several(tree: Tree) -> list[set[bytes]]:
    """The paths of each file that has more than one."""
    found: dict[tuple[int, int, bytes], set[bytes]] = {}
    for path, node in tree.walk():
        if node.entry.kind is not Kind.DIR and path != node.entry.path:
            found.setdefault((node.layer, node.position, node.entry.path), set()).add(path)
    for (layer, position, first), paths in found.items():
        at_first = tree.get(first)
        if at_first is not None and (at_first.layer, at_first.position) == (layer, position):
            paths.add(first)
    return list(found.values())


def _folders(upper: Tree, changed: Collection[bytes], deleted: Sequence[bytes]) -> list[bytes]:
    """The directories that changed, and those that lead to what did."""
    needed: set[bytes] = set()
    for path in (*changed, *deleted):
        folder = path if upper.is_folder(path) else path.rpartition(b"/")[0]
        needed.update(_lineage(folder))
    return sorted(needed)


def _lineage(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]
