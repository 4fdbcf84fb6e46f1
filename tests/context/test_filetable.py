"""The table of files: what is found again, and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minibuild.context.filetable import FileTable

DIGESTS = [bytes([number]).hex() * 32 for number in range(4)]
NOTES = st.lists(
    st.tuples(st.sampled_from([b"/a", b"/b", b"/c"]), st.sampled_from([b"1", b"2"]), st.sampled_from(DIGESTS))
)


@given(NOTES, NOTES, NOTES)
def test_the_last_note_of_a_path_counts_wherever_it_was_made(
    first: list[tuple[bytes, bytes, str]],
    other: list[tuple[bytes, bytes, str]],
    own: list[tuple[bytes, bytes, str]],
) -> None:
    data = noted(None, first).merged(None)
    table = noted(data, own)
    data = noted(data, other).merged(data)  # somebody else's, meanwhile
    found = FileTable(table.merged(data))
    expected = {path: (stamp, digest) for path, stamp, digest in (*first, *other, *own)}
    for path in (b"/a", b"/b", b"/c"):
        assert (path in found) == (path in expected)
        for stamp in (b"1", b"2"):
            known, digest = expected.get(path, (b"", None))
            assert found.get(path, stamp) == (digest if known == stamp else None)


def noted(data: bytes | None, notes: list[tuple[bytes, bytes, str]]) -> FileTable:
    table = FileTable(data)
    for note in notes:
        table.note(*note)
        assert table.get(note[0], note[1]) == note[2]
    return table


def test_what_is_no_table_is_an_empty_one() -> None:
    whole = noted(None, [(b"/a", b"1", DIGESTS[0])]).merged(None)
    for data in (b"", b"{}", whole[:-1], b"x" + whole[1:]):
        assert not FileTable(data)
    assert FileTable(whole)
