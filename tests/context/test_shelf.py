"""The entries of a layer that are kept in a file, against the same held in memory."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.context import shelf
from minibuild.context.place import Nothing, Placement
from minibuild.context.placed import Placed
from minibuild.context.shelf import Shelf
from minibuild.errors import MinibuildError
from minibuild.layers.entry import Entry, Kind

PATHS = st.lists(st.sampled_from([b"a", b"b", b"b-"]), min_size=1, max_size=3).map(b"/".join)
MEMBERS = st.one_of(
    st.builds(Entry, PATHS, st.just(Kind.FILE), st.integers(0, 0o777), size=st.integers(0, 9)),
    st.builds(Entry, PATHS, st.just(Kind.DIR), st.integers(0, 0o777)),
    st.builds(Entry, PATHS, st.just(Kind.SYMLINK), st.just(0o777), link=PATHS),
    st.builds(Entry, PATHS, st.just(Kind.HARDLINK), st.integers(0, 0o777), link=PATHS),
)


def scratch() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def placed(members: list[Entry], scratch: Callable[[], int] | None) -> list[Placed]:
    """What an archive of `members` makes of an empty filesystem."""
    placement = Placement(Nothing(), scratch=scratch)
    for number, member in enumerate(members):
        try:
            if member.kind is Kind.HARDLINK:
                placement.put_link(member, b"", lambda _: b"")
            else:
                placement.put(member, b"", data=number if member.kind is Kind.FILE else None)
        except MinibuildError:
            pass
    return list(placement.finish())


@given(st.lists(MEMBERS, max_size=12))
def test_what_is_kept_in_a_file_is_what_would_have_been_held(members: list[Entry]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "_HELD", 1)
        assert placed(members, scratch) == placed(members, None)


def test_of_a_kept_entry_little_is_held() -> None:
    kept = Shelf(scratch)
    tracemalloc.start()
    try:
        for number in range(20_000):
            path = b"folder/name-%d" % number
            kept.put(path, Placed(Entry(path, Kind.FILE, 0o644, size=10 + number, mtime_ns=number)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 20_000 * 250


def test_names_that_an_archive_uses_again_stay_names_of_the_older_file() -> None:
    members = [
        Entry(b"x", Kind.FILE, 0o600, size=1),
        Entry(b"z", Kind.HARDLINK, 0o600, link=b"x"),
        Entry(b"x", Kind.FILE, 0o640, size=2),
        Entry(b"y", Kind.HARDLINK, 0o640, link=b"x"),
    ]
    found = {one.entry.path: (one.entry.kind, one.entry.mode, one.data) for one in placed(members, None)}
    assert found == {
        b"x": (Kind.FILE, 0o640, 2),
        b"y": (Kind.HARDLINK, 0o640, None),
        b"z": (Kind.FILE, 0o600, 0),
    }


def lookups(links: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often something is looked up to place as many hard links of one file."""
    asked = []
    get = Shelf.get

    def counted(self: Shelf, path: bytes) -> Placed | None:
        asked.append(path)
        return get(self, path)

    members = [Entry(b"f", Kind.FILE, 0o644, size=1)]
    members += [Entry(b"link-%d" % number, Kind.HARDLINK, 0o644, link=b"f") for number in range(links)]
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "get", counted)
        placed(members, None)
    return len(asked)


def test_each_hard_link_of_an_archive_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = lookups(100, monkeypatch), lookups(200, monkeypatch)
    assert many <= 2 * few


def test_what_a_file_takes_the_place_of_is_gone_with_all_below_it() -> None:
    members = [
        Entry(b"a", Kind.DIR, 0o755),
        Entry(b"a/b/c", Kind.FILE, 0o644),
        Entry(b"a", Kind.FILE, 0o600),
        Entry(b"b", Kind.DIR, 0o755),
    ]
    assert [one.entry.path for one in placed(members, None)] == [b"a", b"b"]
