"""What two filesystems have at each path, read side by side."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from minibuild.engine.contentdiff import Contents, Sides
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.tree import Tree

PATHS = st.lists(st.sampled_from([b"a", b"a-", b"b"]), min_size=1, max_size=3).map(b"/".join)
TREES = st.dictionaries(PATHS, st.integers(0, 0o777), max_size=8)


def scratch() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def tree(modes: dict[bytes, int]) -> Tree:
    return Tree.of([LayerIndex.of(Entry(path, Kind.DIR, mode) for path, mode in sorted(modes.items()))])


class Made:
    """Stands in for two filesystems of a store."""

    def __init__(self, *modes: dict[bytes, int]) -> None:
        self._modes = modes

    def trees(self) -> Iterator[Tree]:
        return map(tree, self._modes)


def sides(*modes: dict[bytes, int]) -> Sides:
    return Sides(cast("Contents", Made(*modes)), scratch)


@given(TREES, TREES)
def test_each_path_comes_once_with_what_both_have_there(
    one: dict[bytes, int], other: dict[bytes, int]
) -> None:
    before, after = tree(one), tree(other)
    paths = {path for each in (before, after) for path, _ in each.walk()}
    expected = [
        (path, before.get(path), after.get(path))
        for path in sorted(paths, key=lambda path: path.replace(b"/", b"\0"))
    ]
    assert list(sides(one, other)) == expected


def most(*modes: dict[bytes, int]) -> int:
    """The bytes that are held at most."""
    tracemalloc.start()
    try:
        sides(*modes)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_tree_is_held_at_a_time() -> None:
    names = [b"folder/file-%d" % number for number in range(5_000)]
    some = dict.fromkeys(names, 0o644)
    assert most(some, some) < 1.5 * most(some, {})
