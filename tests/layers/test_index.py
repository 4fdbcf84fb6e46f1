from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import VERSION, IndexBuilder, LayerIndex

NAMES = st.binary(max_size=40).map(lambda name: name.replace(b"\0", b"\xff"))
U32 = st.integers(0, 2**32 - 1)
ENTRIES = st.builds(
    Entry,
    path=NAMES,
    kind=st.sampled_from(Kind),
    mode=st.integers(0, 0o7777),
    uid=U32,
    gid=U32,
    size=st.integers(0, 2**63),
    mtime_ns=st.integers(-(10**20), 10**21),
    link=NAMES,
    device=st.tuples(U32, U32),
    xattrs=st.lists(st.tuples(NAMES, st.binary(max_size=30)), max_size=3).map(tuple),
)
SAMPLE = [
    Entry(b"", Kind.DIR, 0o755),
    Entry(b"etc", Kind.DIR, 0o755),
    Entry(b"etc/passwd", Kind.FILE, 0o644, size=4, mtime_ns=1_500_000_000),
]


@given(st.lists(ENTRIES, max_size=8), st.dictionaries(NAMES, st.binary(max_size=50), max_size=2))
def test_an_index_loads_as_it_was_dumped(entries: list[Entry], files: dict[bytes, bytes]) -> None:
    data = LayerIndex.of(entries, files).dump()
    index = LayerIndex.load(data)
    assert list(index.entries) == entries
    assert [index.entries[row] for row in range(len(index.entries))] == entries
    assert index.paths == [entry.path for entry in entries]
    assert index.files == files
    assert LayerIndex.of(index.entries, index.files).dump() == data


def test_entries_are_a_sequence() -> None:
    entries = LayerIndex.of(SAMPLE).entries
    assert (len(entries), entries[-1], entries[1:], SAMPLE[0] in entries) == (3, SAMPLE[-1], SAMPLE[1:], True)
    with pytest.raises(IndexError):
        entries[3]


def test_an_empty_layer_has_an_index() -> None:
    assert list(LayerIndex.of([]).entries) == []


@given(st.data())
def test_a_damaged_index_never_loads_as_something_else_than_an_index(data: st.DataObject) -> None:
    good = LayerIndex.of(SAMPLE, {b"etc/passwd": b"root"}).dump()
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(LayerError):
        LayerIndex.load(good[:cut])
    place = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    try:
        index = LayerIndex.load(damaged)
    except LayerError:
        return
    assert len(list(index.entries)) == len(index.paths)


def test_another_version_is_refused() -> None:
    good = LayerIndex.of(SAMPLE).dump()
    with pytest.raises(LayerError, match=f"want .* version {VERSION}"):
        LayerIndex.load(good[:4] + bytes([VERSION + 1]) + good[5:])


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"a", Kind.FILE, 0o644, uid=2**32),
        Entry(b"a", Kind.FILE, 0o644, gid=-1),
        Entry(b"a", Kind.FILE, 0o644, size=2**64),
        Entry(b"a", Kind.FILE, 0o644, mtime_ns=10**40),
        Entry(b"a", Kind.CHAR, 0o644, device=(2**32, 0)),
    ],
)
def test_a_field_out_of_range_is_a_layer_error(entry: Entry) -> None:
    with pytest.raises(LayerError):
        IndexBuilder().add(entry)


def test_a_name_with_a_nul_byte_is_a_layer_error() -> None:
    with pytest.raises(LayerError, match="NUL"):
        LayerIndex.of([Entry(b"a\0b", Kind.FILE, 0o644)])
