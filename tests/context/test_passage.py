"""A folder copied entry by entry: the same entries as when it is placed as a whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.context import ordering
from minibuild.context.passage import Passage
from minibuild.context.place import Owner, Placement
from minibuild.context.placed import Placed
from minibuild.context.rows import Head, Match, Row
from minibuild.errors import MinibuildError
from minibuild.layers.entry import Entry, Kind

NAMES = st.sampled_from([b"a", b"a-b", b"b", b"c"])
Tree = dict[bytes, Entry]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Paths with their entries, parents among them."""
    tree: Tree = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8)):
        for depth in range(1, len(parts)):
            path = b"/".join(parts[:depth])
            if tree.setdefault(path, folder(draw, path)).kind is not Kind.DIR:
                break
        else:
            path = b"/".join(parts)
            kind = draw(st.sampled_from([Kind.FILE, Kind.DIR, Kind.SYMLINK]))
            link = b"/b" if kind is Kind.SYMLINK else b""
            tree.setdefault(path, folder(draw, path)._replace(kind=kind, link=link))
    return tree


def folder(draw: st.DrawFn, path: bytes) -> Entry:
    mode = draw(st.sampled_from([0o755, 0o700]))
    return Entry(path, Kind.DIR, mode, mtime_ns=draw(st.sampled_from([1, 2])))


def rows(tree: Tree) -> Iterator[Row]:
    yield Row(Entry(b"", Kind.DIR, 0o755, mtime_ns=3), b"")
    for path in sorted(tree, key=lambda path: path.replace(b"/", b"\0")):
        entry = tree[path]
        # every file called c is one file
        inode = b"1:1" if entry.kind is Kind.FILE and path[-1:] == b"c" else b""
        yield Row(entry, path, b"stamp", inode)


class Below(dict[bytes, Entry]):
    def entry(self, path: bytes) -> Entry | None:
        return Entry(b"", Kind.DIR, 0o755) if not path else self.get(path)


def whole(placement: Placement, tree: Tree, dest: str, root: bool) -> list[Placed] | str:
    try:
        placement.copy(Match(b"name", list(rows(tree)), root), dest)
        return list(placement.finish())
    except MinibuildError as error:
        return error.message


def passed(placement: Placement, tree: Tree, dest: str, root: bool) -> list[Placed] | str:
    try:
        steps = Passage(placement, dest).one([Head(b"name", root), *rows(tree)])
        return [placed for step in steps for placed in step.due]
    except MinibuildError as error:
        return error.message


@given(trees(), trees(), st.sampled_from(["/", "/a", "/b/", "/c/x"]), st.booleans(), st.booleans())
def test_both_ways_give_the_same_entries(below: Tree, tree: Tree, dest: str, root: bool, owned: bool) -> None:
    owner = Owner(1, 2) if owned else None
    one, two = (Placement(Below(below), owner=owner, made_ns=9) for _ in range(2))
    assert passed(one, tree, dest, root) == whole(two, tree, dest, root)


FILE = Row(Entry(b"", Kind.FILE, 0o644, size=1, mtime_ns=4), b"content", b"stamp")
Several = Sequence[tuple[bytes, Tree | None, bool]]  # name, a folder's files or None for a file, the root


def scratch() -> int:
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


def items(several: Several) -> Iterator[Head | Row]:
    for name, tree, root in several:
        yield Head(name, root and tree is not None)
        yield from (FILE,) if tree is None else rows(tree)


def all_whole(placement: Placement, several: Several, dest: str) -> list[Placed] | None:
    try:
        for name, tree, root in several:
            found = [FILE] if tree is None else list(rows(tree))
            placement.copy(Match(name, found, root and tree is not None), dest)
        return list(placement.finish())
    except MinibuildError:
        return None


def all_passed(placement: Placement, several: Several, dest: str) -> list[Placed] | None:
    try:
        steps = Passage(placement, dest).several(items(several), scratch)
        return [placed for step in steps for placed in step.due]
    except MinibuildError:
        return None


@pytest.mark.parametrize("held", [3, 1_000])
@given(
    trees(),
    st.lists(st.tuples(NAMES, st.one_of(st.none(), trees()), st.booleans()), max_size=4),
    st.sampled_from(["/", "/a", "/b/", "/c/x"]),
    st.booleans(),
)
def test_several_matches_give_the_same_entries_both_ways(
    held: int, below: Tree, several: Several, dest: str, owned: bool
) -> None:
    owner = Owner(1, 2) if owned else None
    one, two = (Placement(Below(below), owner=owner, made_ns=9) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_HELD", held)
        assert all_passed(one, several, dest) == all_whole(two, several, dest)
