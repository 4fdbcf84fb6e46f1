"""An archive's entries are placed from where the last one was: as if each were looked for from the root."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minibuild.context.place import Nothing, Placement
from minibuild.errors import DockerfileError, UsageError
from minibuild.layers.entry import Entry, Kind

_NAMES = st.sampled_from([b"a", b"b", b"c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map(b"/".join)
_TARGETS = st.sampled_from([b"a", b"b", b"../a", b"/c", b"/", b"..", b"a/b", b"./b", b"/base/a"])
_ENTRIES = st.one_of(
    st.tuples(_PATHS, st.just(Kind.DIR), st.just(b"")),
    st.tuples(_PATHS, st.just(Kind.FILE), st.just(b"")),
    st.tuples(_PATHS, st.just(Kind.SYMLINK), _TARGETS),
).map(lambda of: Entry(of[0], of[1], 0o755, link=of[2]))
_BASES = st.sampled_from([b"", b"base", b"other/base"])


@given(st.lists(st.tuples(_ENTRIES, _BASES), max_size=12))
def test_entries_land_where_they_land_without_remembering_the_way(entries: list[tuple[Entry, bytes]]) -> None:
    remembering, forgetful = Placement(Nothing()), Placement(Nothing())
    for entry, base in entries:
        said = _put(remembering, entry, base)
        forgetful._way.leave()
        assert said == _put(forgetful, entry, base)
    assert list(remembering.finish()) == list(forgetful.finish())


def _put(placement: Placement, entry: Entry, base: bytes) -> str:
    try:
        placement.put(entry, base)
    except (DockerfileError, UsageError) as error:
        return str(error)
    return ""


def test_looking_for_folders_costs_as_much_as_the_names_of_a_deep_archive() -> None:
    assert _looked_up(400) <= 2.1 * _looked_up(200)


def _looked_up(depth: int) -> int:
    """How often it is asked what is at a path while each of so many folders in one another gets a file."""
    asked = 0

    class Counted(Placement):
        def kind(self, path: bytes) -> Kind | None:
            nonlocal asked
            asked += 1
            return super().kind(path)

    placement = Counted(Nothing())
    for length in range(1, depth + 1):
        folder = b"/".join([b"d"] * length)
        placement.put(Entry(folder, Kind.DIR, 0o755), b"base")
        placement.put(Entry(folder + b"/f", Kind.FILE, 0o644), b"base")
    return asked


def test_a_folder_that_became_a_link_is_followed_from_then_on() -> None:
    placement = Placement(Nothing())
    placement.put(Entry(b"a/first", Kind.FILE, 0o644), b"")
    placement.put(Entry(b"a", Kind.SYMLINK, 0o777, link=b"b"), b"")
    placement.put(Entry(b"a/second", Kind.FILE, 0o644), b"")
    assert [placed.entry.path for placed in placement.finish()] == [b"a", b"b", b"b/second"]
