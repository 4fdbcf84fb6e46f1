"""The table of files: what is found again, and what is not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.context import filetable
from minibuild.context.filetable import FileTable

PATHS = [b"/a", b"/b", b"/c", b"/d"]
DIGESTS = {  # with one stamp a file has one content
    (path, stamp): hashlib.sha256(path + stamp).hexdigest() for path in PATHS for stamp in (b"1", b"2")
}
NOTES = st.lists(st.sampled_from([(*file, digest) for file, digest in DIGESTS.items()]))


@given(NOTES, NOTES, NOTES, st.lists(st.sampled_from(list(DIGESTS))))
def test_the_last_note_of_a_path_is_found_wherever_it_was_made(
    first: list[tuple[bytes, bytes, str]],
    other: list[tuple[bytes, bytes, str]],
    own: list[tuple[bytes, bytes, str]],
    asked: list[tuple[bytes, bytes]],
) -> None:
    data = noted(None, first).merged(None)
    table = noted(data, own)
    data = noted(data, other).merged(data)  # somebody else's, meanwhile
    found = FileTable(table.merged(data))
    latest = {path: stamp for path, stamp, _ in (*first, *other, *own)}
    for path in PATHS:
        assert (path in found) == (path in latest)
    for (path, stamp), digest in zip(asked, found.known(asked), strict=True):
        assert digest in (None, DIGESTS[path, stamp])
        if latest.get(path) == stamp:
            assert digest is not None


def noted(data: bytes | None, notes: list[tuple[bytes, bytes, str]]) -> FileTable:
    table = FileTable(data)
    for note in notes:
        table.note(*note)
        assert table.get(note[0], note[1]) == note[2]
    return table


def test_what_is_no_table_is_an_empty_one() -> None:
    whole = noted(None, [(b"/a", b"1", DIGESTS[b"/a", b"1"])]).merged(None)
    for data in (b"", b"{}", whole[:-1], b"x" + whole[1:]):
        assert not FileTable(data)
    assert FileTable(whole)


def test_what_is_much_is_not_held_until_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(filetable, "_HELD", 200)
    table = FileTable(scratch=lambda: os.open(tmp_path / "much", os.O_RDWR | os.O_CREAT))
    files = [(b"/%d" % number, b"stamp") for number in range(20)]
    for path, stamp in files:
        table.note(path, stamp, hashlib.sha256(path).hexdigest())
    assert table and table.fresh and table.size > 20 * 56
    assert (tmp_path / "much").stat().st_size > 0
    expected = [hashlib.sha256(path).hexdigest() for path, _ in files]
    assert table.known(files) == expected
    assert FileTable(bytes(table.whole())).known(files) == expected
