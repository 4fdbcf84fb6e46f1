from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarblocks import META_MAX
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


# -- what comes out is what went in

name_part = st.binary(min_size=1, max_size=60).filter(
    lambda part: b"\0" not in part and b"/" not in part and part not in (b".", b"..")
)
path = st.lists(name_part, min_size=1, max_size=8).map(b"/".join)
target = st.binary(min_size=1, max_size=200).filter(lambda text: b"\0" not in text)
xattr = st.tuples(
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
        draw(path),
        kind,
        0o777 if kind is Kind.SYMLINK else draw(st.integers(0, 0o7777)),
        draw(ids),
        draw(ids),
        len(content),
        draw(st.integers(-(2**33), 2**33)) * SECOND,
        draw(path) if kind is Kind.HARDLINK else draw(target) if kind is Kind.SYMLINK else b"",
        draw(device) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        tuple(sorted(dict(draw(st.lists(xattr, max_size=3))).items())),
    )
    return entry, content


def archive(rows: list[tuple[Entry, bytes]]) -> bytes:
    return b"".join(header(e) + data + bytes(padding(len(data))) for e, data in rows) + END


@given(st.lists(members(), max_size=6), st.integers(1, 4000))
def test_reads_back_what_our_writer_wrote_whatever_the_pieces(
    rows: list[tuple[Entry, bytes]], piece: int
) -> None:
    assert read(archive(rows), piece) == rows


@given(st.lists(members(), max_size=4), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_reads_what_the_standard_library_wrote(rows: list[tuple[Entry, bytes]], form: int) -> None:
    if form == tarfile.PAX_FORMAT:  # which it cannot write other names in
        rows = [row for row in rows if is_text(row[0].path + row[0].link)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for entry, data in rows:
            info = tarfile.TarInfo(os.fsdecode(entry.path))
            info.type, info.mode, info.size = entry.kind.value.encode(), entry.mode, entry.size
            info.uid, info.gid, info.mtime = entry.uid, entry.gid, entry.mtime_ns // SECOND
            info.linkname = os.fsdecode(entry.link)
            info.devmajor, info.devminor = entry.device
            tar.addfile(info, io.BytesIO(data))
    assert read(out.getvalue()) == [(entry._replace(xattrs=()), data) for entry, data in rows]


def is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def fill(root: Path) -> None:
    """A folder with everything a tar can hold and an ordinary user can make."""
    (root / "a" / "deep" / ("n" * 120) / ("m" * 150)).mkdir(parents=True)
    (root / "a" / "deep" / ("n" * 120) / ("m" * 150) / "file").write_bytes(b"far down")
    (root / "a" / ("long" * 60)).write_bytes(b"x" * 5000)
    (root / "empty").write_bytes(b"")
    (root / "exact").write_bytes(b"e" * 1024)
    os.link(root / "exact", root / "same")
    os.symlink("../outside", root / "link")
    os.symlink("t" * 300, root / "longlink")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"latin")
    (root / "zoë").write_bytes(b"utf-8")
    os.chmod(root / "empty", 0o4751)
    os.utime(root / "exact", ns=(0, 1_700_000_000_123_456_789))
    os.utime(root / "empty", ns=(0, -1_500_000_000))
    os.setxattr(root / "exact", "user.tool", b"\0binary\n=")
    with open(root / "sparse", "wb") as file:
        file.truncate(4 << 20)
        for at in range(0, 4 << 20, 150_000):
            file.seek(at)
            file.write(b"data%d" % at)
    with open(root / "hole", "wb") as file:
        file.truncate(1 << 20)


def assert_reads_as_on_disk(tar: Path, root: Path, *, fraction: bool) -> None:
    seen: dict[tuple[int, int], bytes] = {}
    names = set()
    with tar.open("rb") as file:
        for entry, body in TarReader(file):
            where = root / os.fsdecode(entry.path)
            info = where.lstat()
            names.add(entry.path)
            assert (entry.mode, entry.uid, entry.gid) == (info.st_mode & 0o7777, info.st_uid, info.st_gid)
            mtime = info.st_mtime_ns if fraction else info.st_mtime_ns // SECOND * SECOND
            assert entry.mtime_ns == mtime, entry
            if entry.kind is Kind.HARDLINK:
                assert seen[info.st_dev, info.st_ino] == entry.link
                continue
            seen[info.st_dev, info.st_ino] = entry.path
            if entry.kind is Kind.SYMLINK:
                assert entry.link == os.fsencode(os.readlink(where))
            elif entry.kind is Kind.FILE:
                assert body.read() == where.read_bytes()
                assert entry.size == info.st_size
    found = [Path(at, name) for at, folders, files in os.walk(root) for name in folders + files]
    assert names - {b""} == {os.fsencode(path.relative_to(root)) for path in found}


@pytest.mark.parametrize(
    ("options", "fraction"),
    [
        (["--format=gnu"], False),
        (["--format=gnu", "-S"], False),
        (["--format=posix"], True),
        (["--format=posix", "-S", "--sparse-version=0.0"], True),
        (["--format=posix", "-S", "--sparse-version=0.1"], True),
        (["--format=posix", "-S", "--sparse-version=1.0", "--xattrs"], True),
        (["--format=posix", "--pax-option=globexthdr.name=g,comment=hello"], True),
    ],
)
def test_reads_what_gnu_tar_wrote(tmp_path: Path, options: list[str], fraction: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fill(root)
    tar = tmp_path / "x.tar"
    subprocess.run(["tar", *options, "-C", root, "-cf", tar, "."], check=True)
    assert_reads_as_on_disk(tar, root, fraction=fraction)
    if "--xattrs" in options:
        kept = {entry.path: entry.xattrs for entry in entries(tar.read_bytes())}
        assert kept[b"exact"] + kept[b"same"] == ((b"user.tool", b"\0binary\n="),)


@pytest.mark.parametrize(("form", "fraction"), [("pax", True), ("gnutar", False)])
def test_reads_what_bsdtar_wrote(tmp_path: Path, form: str, fraction: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fill(root)
    os.utime(root / "empty", (0, 0))  # bsdtar writes times before the epoch wrong
    tar = tmp_path / "x.tar"
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(["bsdtar", f"--format={form}", "-C", root, "-cf", tar, "."], check=True, env=env)
    assert_reads_as_on_disk(tar, root, fraction=fraction)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_reads_device_numbers_gnu_tar_wrote(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    os.mknod(tmp_path / "disk", 0o60660, os.makedev(259, 70000))
    tar = tmp_path / "x.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", tar, "null", "disk"], check=True)
    assert [(e.kind, e.device) for e in entries(tar.read_bytes())] == [
        (Kind.CHAR, (1, 3)),
        (Kind.BLOCK, (259, 70000)),
    ]


# -- names


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


# -- the stream


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
    with pytest.raises(LayerError, match="not a tar archive"):
        entries(b"<html>not found</html>".ljust(1024))


def test_unknown_types_are_refused_by_name() -> None:
    with pytest.raises(LayerError, match="'odd' has the unknown type"):
        entries(raw(b"odd", flag=b"V"))


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


# -- sparse maps that lie


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
