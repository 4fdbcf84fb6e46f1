from __future__ import annotations

import pytest

from minibuild.errors import LayerError
from minibuild.layers.entry import Kind
from minibuild.layers.tarblocks import META_MAX
from minibuild.layers.tarheader import END
from tests.layers.tars import SECOND, entries, pax, raw


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"./a/b", b"a/b"),
        (b".//a//b/", b"a/b"),
        (b"/etc/passwd", b"etc/passwd"),
        (b"///x", b"x"),
        (b"a/../b", b"b"),
        (b"a/./b", b"a/b"),
        (b"./", b""),
        (b".", b""),
        (b"/", b""),
        (b".hidden/..data", b".hidden/..data"),
        (b"./.x", b".x"),
        (b"...", b"..."),
    ],
)
def test_names_are_made_plain(name: bytes, path: bytes) -> None:
    assert entries(raw(name))[0].path == path


@pytest.mark.parametrize("name", [b"../x", b"a/../../x", b"/../x", b"..", b"./..", b"a/../.."])
def test_a_name_that_climbs_above_the_root_is_refused_and_named(name: bytes) -> None:
    with pytest.raises(LayerError, match=r"\.\."):
        entries(raw(name))
    with pytest.raises(LayerError, match="link"):
        entries(raw(b"link", flag=b"1", link=name))


def test_a_symlink_may_point_anywhere() -> None:
    assert entries(raw(flag=b"2", link=b"../../etc"))[0].link == b"../../etc"


def test_a_symlink_has_the_mode_that_linux_gives_it() -> None:
    assert [entry.mode for entry in entries(raw(flag=b"2", link=b"a", mode=b"0000640\0") + END)] == [0o777]


def test_names_without_text_are_refused() -> None:
    with pytest.raises(LayerError, match="empty name"):
        entries(raw(b""))
    with pytest.raises(LayerError, match="NUL"):
        entries(pax((b"path", b"a\0b")) + raw())
    with pytest.raises(LayerError, match="link target"):
        entries(raw(flag=b"2"))
    with pytest.raises(LayerError, match="longer than"):
        entries(pax((b"path", b"a/" * 3000)) + raw())


def test_the_prefix_field_counts_only_in_ustar_archives() -> None:
    assert entries(raw(b"name", prefix=b"folder"))[0].path == b"folder/name"
    assert entries(raw(b"name", prefix=b"123456", magic=b"ustar  \0"))[0].path == b"name"


def test_an_old_file_whose_name_ends_in_a_slash_is_a_directory() -> None:
    assert entries(raw(b"old/", flag=b"\0"))[0].kind is Kind.DIR


# -- numbers


def test_base_256_numbers_are_read() -> None:
    got = entries(
        raw(uid=b"\x80" + (3_000_000_000).to_bytes(7, "big"), mtime=b"\xff" * 11 + b"\xfe"),
    )[0]
    assert (got.uid, got.mtime_ns) == (3_000_000_000, -2 * SECOND)


@pytest.mark.parametrize(
    "field", [b"1_0\0\0\0\0\0", b"-1\0\0\0\0\0\0", b"0o17\0\0\0\0", b"9999999\0", b"12 34\0\0\0"]
)
def test_a_number_that_is_none_is_refused(field: bytes) -> None:
    with pytest.raises(LayerError):
        entries(raw(uid=field))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(LayerError):
        entries(raw(size=b"\xff" * 12))
    with pytest.raises(LayerError):
        entries(raw(uid=b"\xff" * 8))
    with pytest.raises(LayerError):
        entries(pax((b"uid", b"4294967295")) + raw())
    with pytest.raises(LayerError):
        entries(pax((b"size", b"9" * 5000)) + raw())
    with pytest.raises(LayerError):
        entries(raw(flag=b"3", device=(b"\x80" + b"\xff" * 7, b"0000000\0")))


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"7", 7 * SECOND),
        (b"1.1234567899", 1_123_456_789),
        (b"9" * 30, 0),
    ],
)
def test_pax_times_have_fractions_and_signs(text: bytes, ns: int) -> None:
    assert entries(pax((b"mtime", text)) + raw())[0].mtime_ns == ns


# -- extended headers


def test_local_pax_headers_rule_one_member_and_global_ones_all_that_follow() -> None:
    data = pax((b"uid", b"7"), (b"path", b"nonsense"), flag=b"g") + raw(b"a")
    data += pax((b"uid", b"8"), (b"hdrcharset", b"BINARY"), (b"path", b"\xff")) + raw(b"b") + raw(b"c")
    data += pax((b"uid", b""), flag=b"g") + raw(b"d", uid=b"0000005\0")
    assert [(e.path, e.uid) for e in entries(data)] == [(b"a", 7), (b"\xff", 8), (b"c", 7), (b"d", 5)]


def test_gnu_long_names_rule_the_next_member_only() -> None:
    long = b"n" * 300
    data = raw(b"././@LongLink", flag=b"L", data=long + b"\0") + raw(b"././@LongLink", flag=b"K", data=long)
    assert [(e.path, e.link) for e in entries(data + raw(flag=b"2", link=b"x") + raw(b"y"))] == [
        (long, long),
        (b"y", b""),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"5 a\n",
        b"3 \n",
        b"99 a=b\n",
        b"6 a=b ",
        b" a=b\n",
        b"-6 a=b\n",
        b"6 =bb\n",
        b"6 a=b\n6 a",
    ],
)
def test_malformed_pax_records_are_refused(data: bytes) -> None:
    with pytest.raises(LayerError):
        entries(raw(b"pax", flag=b"x", data=data) + raw())


def test_an_extended_header_cannot_ask_for_much_memory() -> None:
    with pytest.raises(LayerError, match="limit"):
        entries(raw(b"pax", flag=b"x", size=META_MAX + 1))


def test_attribute_names_are_checked() -> None:
    for key in (b"SCHILY.xattr.", b"SCHILY.xattr.a\0b", b"SCHILY.xattr." + b"n" * 256):
        with pytest.raises(LayerError):
            entries(pax((key, b"v")) + raw())
