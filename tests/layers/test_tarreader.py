from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry
from minibuild.layers.tarheader import END
from minibuild.layers.tarreader import TarReader
from tests.layers.tars import Pieces, archive, entries, members, raw, read


def small_archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("plain", b"x" * 700), ("n" * 200, b"y"), ("empty", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_every_truncation_is_refused_or_ends_between_members() -> None:
    data = small_archive()
    whole = read(data)
    for cut in [*range(0, len(data), 512), *range(1, 4096, 97)]:
        try:
            got = read(data[:cut])
        except LayerError:
            continue
        assert got == whole[: len(got)]


def test_a_member_cut_short_is_refused() -> None:
    data = raw(data=b"x" * 2000)
    for cut in range(1, len(data)):
        with pytest.raises(LayerError):
            entries(data[:cut])


def test_a_huge_stated_size_costs_nothing_and_is_refused() -> None:
    with pytest.raises(LayerError, match="ends in the middle"):
        read(raw(size=b"\x80" + bytes(4) + (2**50).to_bytes(7, "big"), data=b"little"))


def test_the_header_checksum_is_verified() -> None:
    good = bytearray(raw(b"name"))
    for at in (0, 50, 110, 130, 150, 156, 300):
        bad = bytes(good[:at]) + bytes([good[at] ^ 0x15]) + bytes(good[at + 1 :])
        with pytest.raises(LayerError):
            entries(bad)


def test_checksums_over_signed_and_over_many_high_bytes_are_accepted() -> None:
    name, link = b"\xff" * 100, b"\xfe" * 100
    block = raw(name, flag=b"2", link=link, prefix=b"\xfd" * 155)
    assert len(entries(block)) == 1
    signed = sum(block[:148]) + sum(block[156:]) + 256 - 256 * sum(b > 127 for b in block)
    assert signed < 0 or entries(block[:148] + b"%06o\0 " % signed + block[156:])


def test_noise_is_not_an_archive() -> None:
    with pytest.raises(LayerError, match="no tar archive"):
        entries(b"<html>not found</html>".ljust(1024))


def test_unknown_types_are_refused_by_name() -> None:
    with pytest.raises(LayerError, match="'odd' has the unknown type"):
        entries(raw(b"odd", flag=b"V"))


def test_one_empty_header_is_not_the_end() -> None:
    with pytest.raises(LayerError, match="goes on behind an empty header"):
        entries(raw(b"a") + END[:512] + raw(b"b") + END)
    assert len(entries(raw(b"a") + END[:512])) == 1


def test_what_follows_the_end_is_read_to_the_last_byte() -> None:
    source = io.BytesIO(raw(b"a") + END + raw(b"b") + b"garbage" * 300_000)
    assert [entry.path for entry, _ in TarReader(source)] == [b"a"]
    assert source.read() == b""


def test_a_body_left_alone_or_half_read_does_not_disturb_the_next() -> None:
    data = raw(b"a", data=b"a" * 3000) + raw(b"b", data=b"b" * 3000) + raw(b"c", data=b"c")
    reader = iter(TarReader(Pieces(data, 700)))
    next(reader)
    _, body = next(reader)
    assert len(next(iter(body.chunks()))) > 0
    assert next(reader)[1].read() == b"c"


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(LayerError):
        read(data)


@given(st.integers(0, 6000), st.integers(0, 255), st.lists(members(), min_size=1, max_size=3))
def test_a_damaged_byte_is_read_or_refused(at: int, value: int, rows: list[tuple[Entry, bytes]]) -> None:
    data = bytearray(archive(rows))
    data[at % len(data)] = value
    with contextlib.suppress(LayerError):
        read(bytes(data))
