from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarreader import TarReader
from tests.layers.tars import SECOND, archive, entries, members, read


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
