from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import BLOCK, END, header, pax_xattr_name

SECOND = 1_000_000_000
PART = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=130).map(str.encode),
    st.binary(min_size=1, max_size=130).map(lambda part: part.replace(b"\0", b"z").replace(b"/", b"z")),
).filter(lambda part: part not in (b".", b"..") and len(part) <= 255)
PATHS = st.lists(PART, min_size=1, max_size=5).map(b"/".join)
XATTR_NAMES = st.binary(min_size=1, max_size=20).map(
    lambda name: b"user." + name.replace(b"\0", b"%").replace(b"\n", b"=")
)
IDS = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
TIMES = st.one_of(st.integers(0, 2**31 * SECOND), st.integers(-(2**40) * SECOND, 2**40 * SECOND))
ENTRIES = st.builds(
    Entry,
    path=PATHS,
    kind=st.sampled_from(Kind),
    mode=st.integers(0, 0o7777),
    uid=IDS,
    gid=IDS,
    size=st.one_of(st.integers(0, 100_000), st.integers(0, 2**50)),
    mtime_ns=TIMES,
    link=PATHS,
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**22)),
    xattrs=st.lists(
        st.tuples(XATTR_NAMES, st.binary(max_size=40)), max_size=3, unique_by=lambda pair: pair[0]
    ).map(lambda pairs: tuple(sorted(pairs))),
).map(lambda entry: sensible(entry))

DAMAGED = b"caf\xe9\xff"
LONG = b"a-rather-long-folder-name/" * 9
SAMPLE = [
    Entry(b"plain", Kind.FILE, 0o644, 0, 0, 0, 1_700_000_000 * SECOND),
    Entry(b"dir", Kind.DIR, 0o1777, 5, 6, 0, 1_700_000_000 * SECOND),
    Entry(b"dir/link", Kind.SYMLINK, 0o777, link=b"../plain", mtime_ns=SECOND),
    Entry(b"dir/hard", Kind.HARDLINK, 0o644, link=b"plain"),
    Entry(b"null", Kind.CHAR, 0o666, device=(1, 3)),
    Entry(b"disk", Kind.BLOCK, 0o660, device=(259, 1_048_575)),
    Entry(b"pipe", Kind.FIFO, 0o600),
    Entry(b"n" * 100, Kind.FILE, 0o644),
    Entry(b"n" * 101, Kind.FILE, 0o644),
    Entry(b"d" * 99, Kind.DIR, 0o755),
    Entry(b"d" * 100, Kind.DIR, 0o755),
    Entry(b"p" * 155 + b"/" + b"n" * 100, Kind.FILE, 0o644),
    Entry(b"p" * 156 + b"/" + b"n" * 100, Kind.FILE, 0o644),
    Entry(b"p" * 155 + b"/" + b"n" * 99, Kind.DIR, 0o755),
    Entry(b"p" * 155 + b"/" + b"n" * 100 + b"x", Kind.FILE, 0o644),
    Entry(LONG + b"far", Kind.FILE, 0o644),
    Entry(b"to-far", Kind.SYMLINK, 0o777, link=LONG + b"far"),
    Entry(b"hard-far", Kind.HARDLINK, 0o644, link=LONG + b"far"),
    Entry("grüße/日本".encode(), Kind.FILE, 0o644),
    Entry(b"verweis", Kind.SYMLINK, 0o777, link="grüße".encode()),
    Entry(DAMAGED, Kind.FILE, 0o644),
    Entry(LONG + DAMAGED, Kind.FILE, 0o644),
    Entry(b"before", Kind.FILE, 0o644, mtime_ns=-5 * SECOND),
    Entry(b"far-future", Kind.FILE, 0o644, mtime_ns=2**34 * SECOND),
    Entry(b"big-ids", Kind.FILE, 0o644, uid=2_097_152, gid=4_000_000_000),
    Entry(b"attributes", Kind.FILE, 0o644, xattrs=((b"user.a=b%", b"=\n\0"), (b"user.c", b"1"))),
    Entry(b" blank \n", Kind.FILE, 0o644),
]


def sensible(entry: Entry) -> Entry:
    """The same without what its kind has no room for."""
    has_link = entry.kind in (Kind.SYMLINK, Kind.HARDLINK)
    return entry._replace(
        size=entry.size if entry.kind is Kind.FILE else 0,
        link=entry.link if has_link else b"",
        device=entry.device if entry.kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        mtime_ns=entry.mtime_ns // SECOND * SECOND,
    )


def xattrs_of(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr."):
            name = os.fsencode(key.removeprefix("SCHILY.xattr."))
            if b"%3D" in name or b"%25" in name:
                name = name.replace(b"%3D", b"=").replace(b"%25", b"%")
            found.append((name, value.encode("utf-8", "surrogateescape")))
    return tuple(sorted(found))


def device_of(member: tarfile.TarInfo) -> tuple[int, int]:
    major = member.pax_headers.get("SCHILY.devmajor", member.devmajor)
    return int(major), int(member.pax_headers.get("SCHILY.devminor", member.devminor))


def read_back(entry: Entry) -> Entry:
    """The entry as the standard library's reader sees its header."""
    blocks = io.BytesIO(header(entry) + END)
    with tarfile.open(fileobj=blocks, encoding="utf-8", errors="surrogateescape") as archive:
        member = archive.next()
    assert member is not None
    assert (member.uname, member.gname) == ("", "")
    return Entry(
        os.fsencode(member.name),
        Kind(member.type.decode()),
        member.mode,
        member.uid,
        member.gid,
        member.size,
        int(member.mtime) * SECOND,
        os.fsencode(member.linkname),
        device_of(member),
        xattrs_of(member),
    )


@given(ENTRIES)
@example(Entry(b"\xff" * 100, Kind.SYMLINK, 0o777, link=b"\xff" * 100))
@example(Entry(b"\x7f" * 100, Kind.SYMLINK, 0o777, link=b"\x7f" * 100))
def test_every_entry_reads_back_with_the_standard_library(entry: Entry) -> None:
    assert len(header(entry)) % BLOCK == 0
    assert read_back(entry) == entry


@given(ENTRIES)
def test_equal_entries_give_equal_bytes(entry: Entry) -> None:
    assert header(entry) == header(Entry(*entry))


@pytest.mark.parametrize("entry", SAMPLE, ids=lambda entry: repr(entry.path[-20:]))
def test_each_sample_reads_back_with_the_standard_library(entry: Entry) -> None:
    assert read_back(entry) == entry


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"usr/bin/env", Kind.FILE, 0o755, 0, 0, 8 * 2**30 - 1, 1_700_000_000 * SECOND + 5),
        Entry(b"p" * 155 + b"/" + b"n" * 100, Kind.FILE, 0o644),
        Entry(b"id", Kind.FILE, 0o644, uid=2_097_151, gid=2_097_151, mtime_ns=(8**11 - 1) * SECOND),
        Entry(b"l", Kind.SYMLINK, 0o777, link=b"t" * 100),
        Entry(DAMAGED, Kind.FILE, 0o644),
    ],
)
def test_what_ustar_holds_takes_one_block(entry: Entry) -> None:
    assert len(header(entry)) == BLOCK


def test_times_are_cut_to_whole_seconds_downwards() -> None:
    late = read_back(Entry(b"f", Kind.FILE, 0o644, mtime_ns=1_999_999_999))
    early = read_back(Entry(b"f", Kind.FILE, 0o644, mtime_ns=-1))
    assert (late.mtime_ns, early.mtime_ns) == (SECOND, -SECOND)


def test_a_pax_record_counts_its_own_digits() -> None:
    # lengths around 100 and 1000, where counting the digits adds one
    for length in [*range(70, 100), *range(970, 1000)]:
        entry = Entry(b"f", Kind.FILE, 0o644, xattrs=((b"user.x", b"v" * length),))
        assert read_back(entry) == entry


def test_the_root_is_a_dot() -> None:
    assert header(Entry(b"", Kind.DIR, 0o755)).startswith(b"./\0")


def test_an_equals_sign_in_an_attribute_name_is_written_as_gnu_tar_does() -> None:
    assert pax_xattr_name(b"user.a=b") == b"user.a%3Db"
    assert pax_xattr_name(b"user.100%") == b"user.100%"
    assert pax_xattr_name(b"user.%3D") == b"user.%253D"


def listing(command: list[str]) -> list[bytes]:
    done = subprocess.run(command, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "TZ": "UTC"})
    return done.stdout.splitlines()


def archive_of_sample(folder: Path) -> Path:
    archive = folder / "sample.tar"
    archive.write_bytes(b"".join(map(header, SAMPLE)) + END)
    return archive


def test_gnu_tar_lists_the_sample(tmp_path: Path) -> None:
    lines = listing(
        [
            "tar",
            "-tvf",
            str(archive_of_sample(tmp_path)),
            "--numeric-owner",
            "--quoting-style=c",
            "--full-time",
        ]
    )
    text = b"\n".join(lines)
    assert len(lines) == len(SAMPLE)
    for entry in SAMPLE:
        name = entry.path + (b"/" if entry.kind is Kind.DIR else b"")
        quoted = name.decode("latin-1").encode("unicode_escape")
        if name.isascii() and b"\n" not in name:
            assert b'"' + quoted + b'"' in text
    assert rb'"caf\351\377"' in text
    assert "grüße/日本".encode() in text or rb"gr\303\274\303\237e" in text
    assert b"1969-12-31 23:59:55" in text
    assert b"2514-05-30 01:53:04" in text
    assert b"2097152/4000000000" in text
    assert b"259,1048575" in text


def test_bsdtar_lists_the_sample_without_a_complaint(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bsdtar", "-tf", str(archive_of_sample(tmp_path))],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == len(SAMPLE)


def test_gnu_tar_restores_attributes_and_odd_names(tmp_path: Path) -> None:
    entries = [entry for entry in SAMPLE if entry.kind in (Kind.FILE, Kind.DIR) and len(entry.path) < 256]
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"".join(header(entry) for entry in entries) + END)
    root = tmp_path / "root"
    root.mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--no-same-owner", "-p", "--delay-directory-restore"]
    subprocess.run(["tar", "-xf", archive, "-C", root, *options], check=True)
    for entry in entries:
        path = os.path.join(os.fsencode(root), entry.path)
        assert os.lstat(path).st_mode & 0o777 == entry.mode & 0o777
        assert (
            tuple((os.fsencode(name), os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
            == entry.xattrs
        )
