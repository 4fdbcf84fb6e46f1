"""A tree that reads its layers when it must: the answers of one that reads all, and no layer too many."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.lazytree import LazyTree, OpenLayer
from minibuild.layers.merged import Merged
from minibuild.layers.scan import index_blob
from minibuild.layers.tree import Tree
from tests.layers.stacks import archive, layers, paths

Question = Callable[[Merged, bytes], Any]


class Recorded:
    """A stack that notes which layers were asked for."""

    def __init__(self, indexes: Sequence[LayerIndex]) -> None:
        self.indexes = indexes
        self.opened: set[int] = set()

    def open(self, layer: int, *, more: bool) -> OpenLayer:
        self.opened.add(layer)
        return OpenLayer(self.indexes[layer])

    def merged(self) -> Tree:
        self.opened.update(range(len(self.indexes)))
        return Tree.of(self.indexes)

    def tree(self, known: int = 0) -> LazyTree:
        return LazyTree(self, len(self.indexes), Tree.of(self.indexes[:known]), known)


def answer(question: Question, tree: Merged, path: bytes) -> Any:
    try:
        return question(tree, path)
    except LayerError as error:
        return str(error)


ALL: dict[str, Question] = {
    "get": lambda tree, path: tree.get(path),
    "kind": lambda tree, path: tree.kind(path),
    "is_folder": lambda tree, path: tree.is_folder(path),
    "paths_in": lambda tree, path: list(tree.paths_in(path)),
    "children": lambda tree, path: tree.children(path),
    "walk": lambda tree, path: list(tree.walk(path)),
    "resolve": lambda tree, path: tree.resolve(path),
    "not the last": lambda tree, path: tree.resolve(path, follow_last=False),
    "find": lambda tree, path: tree.find(path),
    "file": lambda tree, path: tree.file(path),
}
indexes_of = st.lists(layers(), max_size=5).map(
    lambda drawn: [index_blob(io.BytesIO(blob), None, Digest.of(blob)) for blob in map(archive, drawn)]
)
anywhere = st.just(b"") | paths


@settings(max_examples=400, deadline=None)
@given(
    indexes_of, st.lists(st.tuples(st.sampled_from(sorted(ALL)), anywhere), max_size=12), st.integers(0, 5)
)
def test_every_answer_is_that_of_the_whole_tree(
    indexes: list[LayerIndex], asked: list[tuple[str, bytes]], known: int
) -> None:
    whole = Tree.of(indexes)
    tree = Recorded(indexes).tree(min(known, len(indexes)))
    for name, path in asked:
        assert answer(ALL[name], tree, path) == answer(ALL[name], whole, path), (name, path)


# -- which layers


def below(path: bytes, *last: Entry) -> LayerIndex:
    """A layer with the folders that `path` is in."""
    parts = path.split(b"/")
    parents = [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
    return LayerIndex.of([*(Entry(one, Kind.DIR, 0o711) for one in parents), *last])


def possible(path: bytes) -> list[LayerIndex]:
    """What the layers not yet read could amount to, as far as `path` is concerned."""
    inside = path + b"/zz" if path else b"zz"
    folder = [Entry(path, Kind.DIR, 0o711)] if path else []
    return [
        LayerIndex.of(()),
        below(path, Entry(path or b"zz", Kind.FILE, 0o600)),
        below(path, *folder),
        below(path, *folder, Entry(inside, Kind.FILE, 0o600)),
    ]


def needed(indexes: Sequence[LayerIndex], question: Question, path: bytes) -> set[int]:
    """The layers without which, and with all those above them, the answer could be another one."""
    found = set()
    nothing = LayerIndex.of(())
    for layer in reversed(range(len(indexes))):
        above = indexes[layer + 1 :]
        could = [[nothing] * layer + [one, *above] for one in possible(path)]
        answers = [question(Tree.of(stack), path) for stack in could]
        if all(one == answers[0] for one in answers):
            break
        found.add(layer)
    return found


@settings(max_examples=400, deadline=None)
@given(indexes_of, anywhere, st.sampled_from(["get", "kind", "paths_in"]))
def test_no_layer_is_read_that_the_answer_does_not_hang_on(
    indexes: list[LayerIndex], path: bytes, name: str
) -> None:
    stack = Recorded(indexes)
    ALL[name](stack.tree(), path)
    assert stack.opened == needed(indexes, ALL[name], path)


@settings(max_examples=200, deadline=None)
@given(indexes_of, anywhere)
def test_walking_reads_the_layers_that_settle_the_path_and_what_is_in_it(
    indexes: list[LayerIndex], path: bytes
) -> None:
    stack = Recorded(indexes)
    rows = list(stack.tree().walk(path))
    wanted = needed(indexes, ALL["get"], path)
    if rows and rows[0][1].entry.kind is Kind.DIR:
        wanted |= needed(indexes, ALL["paths_in"], path)
    assert stack.opened == wanted


def file(path: bytes) -> Entry:
    return Entry(path, Kind.FILE, 0o644)


def folder(path: bytes) -> Entry:
    return Entry(path, Kind.DIR, 0o755)


IMAGE = [
    LayerIndex.of([folder(b"etc"), file(b"etc/passwd"), folder(b"old"), file(b"old/x"), folder(b"opt")]),
    LayerIndex.of([folder(b"opt"), file(b"opt/app"), Entry(b"bin", Kind.SYMLINK, 0o777, link=b"usr/bin")]),
    LayerIndex.of([folder(b"usr/bin"), file(b"usr/bin/sh"), file(b"etc/.wh.passwd")]),
    LayerIndex.of([folder(b"old"), file(b"old/.wh..wh..opq"), file(b"old/y")]),
    LayerIndex.of([file(b"last"), file(b"opt/hint")]),
]


@pytest.mark.parametrize(
    ("name", "path", "lowest"),
    [
        ("get", b"", 5),
        ("get", b"last", 4),
        ("get", b"opt/app", 1),
        ("kind", b"opt", 4),  # the top layer has something in it
        ("get", b"opt", 1),  # but no entry for it
        ("get", b"etc/passwd", 2),
        ("get", b"old/x", 3),
        ("walk", b"old", 3),
        ("walk", b"last", 4),
        ("find", b"bin/sh", 1),
        ("walk", b"opt", 0),
        ("get", b"last/x", 4),
        ("get", b"none", 0),
    ],
)
def test_layers_are_read_from_the_top_down_to_the_one_that_settles_it(
    name: str, path: bytes, lowest: int
) -> None:
    stack = Recorded(IMAGE)
    assert ALL[name](stack.tree(), path) == ALL[name](Tree.of(IMAGE), path)
    assert stack.opened == set(range(lowest, 5))


def test_what_lies_under_a_known_tree_is_not_opened() -> None:
    stack = Recorded(IMAGE)
    tree = stack.tree(known=3)
    assert tree.find(b"bin/sh") is not None
    assert tree.get(b"none") is None
    assert stack.opened == {3, 4}


def test_many_layers_are_merged_once_all_had_to_be_read() -> None:
    stack = Recorded([LayerIndex.of([file(b"f%d" % number)]) for number in range(20)])
    tree = stack.tree()
    assert tree.get(b"none") is None
    stack.opened.clear()
    assert tree.get(b"f0") is not None and tree.get(b"other") is None
    assert not stack.opened


def test_paths_may_be_deeper_than_calls_nest() -> None:
    deep = b"/".join([b"d"] * 1_500)
    stack = Recorded([LayerIndex.of([file(deep)]), LayerIndex.of([file(b"other")])])
    assert stack.tree().kind(deep) is Kind.FILE
    assert stack.tree().get(deep + b"/none") is None
