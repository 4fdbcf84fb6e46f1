from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.layers.names import in_order, listed

some_names = st.lists(st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"\n")))


@settings(deadline=None)
@given(some_names, st.integers(1, 7))
def test_pieces_come_in_the_order_of_a_plain_sort(names: list[bytes], piece: int) -> None:
    assert list(in_order(names, Path(tempfile.gettempdir()), piece=piece)) == sorted(names)


def test_names_longer_than_a_block_come_whole(tmp_path: Path) -> None:
    names = [bytes([97 + number % 26]) * 255 + b"%d" % number for number in range(20_000)]
    assert list(in_order(names, tmp_path, piece=8_000)) == sorted(names)


def test_a_folder_is_listed_with_names_that_are_no_text(tmp_path: Path) -> None:
    names = [b"b", b"a\n", b"\xff\xfe", "ä".encode(), b"B"]
    for name in names:
        open(os.fsencode(tmp_path) + b"/" + name, "x").close()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert list(listed(fd, tmp_path.parent, piece=2)) == sorted(names)
    finally:
        os.close(fd)


def test_pieces_leave_no_file_behind_even_if_not_all_is_read(tmp_path: Path) -> None:
    found = in_order([b"c", b"b", b"a"], tmp_path, piece=1)
    assert next(found) == b"a"
    assert not os.listdir(tmp_path)
