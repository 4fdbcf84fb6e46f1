"""Tar archives made field by field or drawn at random, and what the reader makes of them."""

from __future__ import annotations

import io

from hypothesis import strategies as st

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import END, header, padding
from minibuild.layers.tarreader import TarReader

SECOND = 1_000_000_000


class Pieces:
    """A source that gives as much as it likes, like a decompressor."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._data.read(self._size)


def read(data: bytes, piece: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    return [(entry, body.read()) for entry, body in TarReader(Pieces(data, piece))]


def entries(data: bytes) -> list[Entry]:
    return [entry for entry, _ in TarReader(io.BytesIO(data))]


def raw(
    name: bytes = b"file",
    *,
    flag: bytes = b"0",
    size: int | bytes = 0,
    link: bytes = b"",
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    prefix: bytes = b"",
    magic: bytes = b"ustar\00000",
    device: tuple[bytes, bytes] = (b"0000000\0", b"0000000\0"),
    data: bytes = b"",
) -> bytes:
    """A header block as bytes, valid but for what is asked, and padded data."""
    size = size if isinstance(size, bytes) else b"%011o\0" % (size or len(data))
    block = name.ljust(100, b"\0") + mode + uid + b"0000000\0" + size + mtime + b" " * 8 + flag
    block += link.ljust(100, b"\0") + magic + bytes(64) + device[0] + device[1] + prefix.ljust(155, b"\0")
    block = block.ljust(512, b"\0")
    assert len(block) == 512
    block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
    return block + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    return raw(b"pax", flag=flag, data=b"".join(record(*pair) for pair in records))


_NAME_PART = st.binary(min_size=1, max_size=60).filter(
    lambda part: b"\0" not in part and b"/" not in part and part not in (b".", b"..")
)
_PATH = st.lists(_NAME_PART, min_size=1, max_size=8).map(b"/".join)
_TARGET = st.binary(min_size=1, max_size=200).filter(lambda text: b"\0" not in text)
_XATTR = st.tuples(
    st.binary(min_size=1, max_size=40)
    .filter(lambda text: b"\0" not in text and b"%" not in text)
    .map(b"user.".__add__),
    st.binary(max_size=300),
)


@st.composite
def members(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from(Kind))
    content = draw(st.binary(max_size=1500)) if kind is Kind.FILE else b""
    ids = st.integers(0, 2**32 - 2) | st.integers(0, 3)
    device = st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1))
    entry = Entry(
        draw(_PATH),
        kind,
        0o777 if kind is Kind.SYMLINK else draw(st.integers(0, 0o7777)),
        draw(ids),
        draw(ids),
        len(content),
        draw(st.integers(-(2**33), 2**33)) * SECOND,
        draw(_PATH) if kind is Kind.HARDLINK else draw(_TARGET) if kind is Kind.SYMLINK else b"",
        draw(device) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        tuple(sorted(dict(draw(st.lists(_XATTR, max_size=3))).items())),
    )
    return entry, content


def archive(rows: list[tuple[Entry, bytes]]) -> bytes:
    return b"".join(header(e) + data + bytes(padding(len(data))) for e, data in rows) + END
