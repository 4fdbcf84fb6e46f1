"""The difference of two stacks of layers, laid over the first, shows what the second shows."""

from __future__ import annotations

import io
import os
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.layers.compress import Compression
from minibuild.layers.difference import complete, unlike, write_difference
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.merge import MergeLayer, contents
from minibuild.layers.scan import index_blob
from minibuild.layers.squash import gone
from minibuild.layers.tree import Tree
from minibuild.layers.writer import LayerWriter
from tests.layers.test_squash import content, layer_of, layers, shown

SECOND = 10**9


def file(path: bytes, data: bytes = b"x", mode: int = 0o644, time: int = 1) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, mode, 0, 0, len(data), time * SECOND), data


def link(path: bytes, target: bytes) -> tuple[Entry, bytes]:
    return Entry(path, Kind.HARDLINK, 0o644, link=target), b""


def data_of(stack: list[MergeLayer]) -> dict[bytes, bytes]:
    """Contents by path."""
    tree = Tree.of(one.index for one in stack)
    found = {}
    for paths, entry, body in contents(tree, stack):
        if entry.kind is Kind.FILE:
            found.update(dict.fromkeys(paths, body.read()))
    return found


def difference(lower: list[MergeLayer], upper: list[MergeLayer]) -> MergeLayer:
    below, above = Tree.of(one.index for one in lower), Tree.of(one.index for one in upper)
    before, after = data_of(lower), data_of(upper)
    rewritten = {path for path, data in after.items() if path in before and before[path] != data}
    changed = {*unlike(below, above), *rewritten}
    complete(changed, below, above)
    fd = os.memfd_create("layer")
    with (
        tempfile.TemporaryDirectory() as folder,
        open(fd, "rb") as file,
        LayerWriter(fd, Compression("uncompressed", None)) as writer,
    ):
        deleted = list(gone(below, above))
        write_difference(above, upper, changed, deleted, writer, Path(folder, "spool"))
        done = writer.close()
        file.seek(0)
        blob = file.read()
    return MergeLayer(index_blob(io.BytesIO(blob), None, done.diff_id), partial(io.BytesIO, blob))


STACKS = st.lists(layers(), max_size=3)


@settings(max_examples=400, deadline=None)
@given(STACKS, STACKS)
def test_over_the_lower_it_shows_the_upper(lower: list[MergeLayer], upper: list[MergeLayer]) -> None:
    one = difference(lower, upper)
    assert shown([*lower, one]) == shown(upper)
    assert content([*lower, one]) == content(upper)


@settings(max_examples=100, deadline=None)
@given(STACKS)
def test_of_a_stack_and_itself_there_is_none(stack: list[MergeLayer]) -> None:
    assert difference(stack, stack).index.paths == []


def test_what_is_equal_in_other_layers_is_left_out() -> None:
    lower = [layer_of([file(b"a"), file(b"b")])]
    upper = [layer_of([file(b"b")]), layer_of([file(b"a"), file(b"c")])]
    assert difference(lower, upper).index.paths == [b"c"]


def test_a_file_of_equal_size_and_time_with_other_bytes_is_in_it() -> None:
    lower, upper = [layer_of([file(b"a", b"1")])], [layer_of([file(b"a", b"2")])]
    assert data_of([difference(lower, upper)]) == {b"a": b"2"}


def test_names_that_become_one_file_are_written_as_one() -> None:
    lower = [layer_of([file(b"a"), file(b"b")])]
    upper = [layer_of([file(b"a"), link(b"b", b"a")])]
    one = difference(lower, upper)
    assert [entry.kind for entry in one.index.entries] == [Kind.FILE, Kind.HARDLINK]
    back = difference(upper, lower)
    assert [entry.kind for entry in back.index.entries] == [Kind.FILE, Kind.FILE]


def test_a_name_that_a_file_loses_does_not_bring_the_file() -> None:
    lower = [layer_of([file(b"a"), link(b"b", b"a")])]
    assert difference(lower, [layer_of([file(b"a")])]).index.paths == [b".wh.b"]


def test_attributes_and_owners_count() -> None:
    entry, data = file(b"a")
    for other in (entry._replace(xattrs=((b"user.x", b"1"),)), entry._replace(uid=7)):
        assert difference([layer_of([(entry, data)])], [layer_of([(other, data)])]).index.paths == [b"a"]
