from __future__ import annotations

import pytest

from minibuild.errors import LayerError
from tests.layers.tars import pax, raw, read


def sparse_header(numbers: list[tuple[int, int]], size: int, data: bytes, more: bool = False) -> bytes:
    block = bytearray(raw(b"s", flag=b"S", magic=b"ustar  \0", data=data))
    for row, (offset, length) in enumerate(numbers):
        block[386 + 24 * row : 410 + 24 * row] = b"%011o\0%011o\0" % (offset, length)
    block[482] = more
    block[483:495] = b"%011o\0" % size
    total = sum(block[:148]) + sum(block[156:512]) + 256
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def test_a_sparse_map_is_spread_over_the_file() -> None:
    got = read(sparse_header([(2, 3), (10, 2), (20, 0)], 20, b"abcde"))
    assert got[0][1] == b"\0\0abc" + bytes(5) + b"de" + bytes(8)


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ([(0, 5), (3, 1)], 20),
        ([(18, 5)], 20),
        ([(0, 4)], 20),
        ([(0, 6)], 20),
        ([(0, 5)], 2),
        ([(0, 5)], 2**44 + 1),
    ],
)
def test_a_sparse_map_that_lies_is_refused(numbers: list[tuple[int, int]], size: int) -> None:
    if size < 8**11:
        with pytest.raises(LayerError):
            read(sparse_header(numbers, size, b"abcde"))
    text = b",".join(b"%d,%d" % pair for pair in numbers)
    fields = [(b"GNU.sparse.map", text), (b"GNU.sparse.size", b"%d" % size)]
    with pytest.raises(LayerError):
        read(pax(*fields) + raw(data=b"abcde"))


@pytest.mark.parametrize(
    "text", [b"", b"x\n", b"1\n0\n", b"999999999\n", b"2\n0\n1\n5\n", b"1" * 600, b"1\n-1\n5\n"]
)
def test_a_sparse_map_inside_the_content_that_lies_is_refused(text: bytes) -> None:
    fields = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"20")]
    with pytest.raises(LayerError):
        read(pax(*fields) + raw(data=text.ljust(512, b"\0") + b"abcde"))
