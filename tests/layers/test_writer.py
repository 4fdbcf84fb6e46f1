from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from minibuild.errors import LayerError
from minibuild.layers.compress import CHUNK, DEFAULT, Compression, decompressor
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.writer import FileAt, LayerResult, LayerWriter, Source

SECOND = 1_000_000_000
PLAIN = Compression.parse("uncompressed")
Rows = list[tuple[Entry, Source | None]]


def file(path: bytes, size: int, mtime_ns: int = 0) -> Entry:
    return Entry(path, Kind.FILE, 0o644, size=size, mtime_ns=mtime_ns)


def write(
    folder: Path, rows: Rows, compression: Compression = PLAIN, clamp_mtime_ns: int | None = None
) -> tuple[LayerResult, bytes]:
    """The result and the blob."""
    path = folder / f"blob{len(list(folder.iterdir()))}"
    with path.open("wb") as blob, LayerWriter(blob.fileno(), compression, clamp_mtime_ns) as writer:
        for entry, source in rows:
            writer.add(entry, source)
        result = writer.close()
    return result, path.read_bytes()


def sample(folder: Path) -> Rows:
    (folder / "big").write_bytes(b"0123456789abcdef" * 200_000)
    (folder / "small").write_bytes(b"small\n")
    return [
        (Entry(b"etc", Kind.DIR, 0o755, mtime_ns=5 * SECOND + 7), None),
        (file(b"etc/passwd", 5), b"root:"),
        (file(b"etc/empty", 0), None),
        (file(b"big", 3_200_000, 9 * SECOND), FileAt(os.fsencode(folder / "big"))),
        (file(b"small", 6), folder / "small"),
        (Entry(b"hard", Kind.HARDLINK, 0o644, link=b"small"), None),
        (Entry(b"soft", Kind.SYMLINK, 0o777, link=b"etc"), None),
        (file(b"block", 512), bytes(512)),
    ]


@pytest.mark.parametrize("algorithm", ["zstd", "gzip", "uncompressed"])
def test_a_layer_holds_what_was_added(algorithm: str, tmp_path: Path) -> None:
    compression = Compression.parse(algorithm)
    result, blob = write(tmp_path, sample(tmp_path), compression)
    assert result.digest == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert (result.size, result.media_type, result.entries) == (len(blob), compression.media_type, 8)
    stream = decompressor(io.BytesIO(blob), result.media_type)
    tar = b"".join(iter(lambda: stream.read(CHUNK), b""))
    assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert result.uncompressed_size == len(tar)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = "etc etc/passwd etc/empty big small hard soft block"
        assert archive.getnames() == names.split()
        big = archive.extractfile("big")
        assert big is not None and big.read() == (tmp_path / "big").read_bytes()
        small = archive.extractfile("hard")
        assert small is not None and small.read() == b"small\n"


@pytest.mark.parametrize("tar", ["tar", "bsdtar"])
@pytest.mark.parametrize("algorithm", ["zstd", "gzip", "uncompressed"])
def test_tars_of_others_unpack_it(tar: str, algorithm: str, tmp_path: Path) -> None:
    _, blob = write(tmp_path, sample(tmp_path), Compression.parse(algorithm))
    (tmp_path / "layer.tar").write_bytes(blob)
    root = tmp_path / "root"
    root.mkdir()
    # GNU tar calls the zstd command, which need not be here
    if tar == "tar" and algorithm == "zstd":
        stream = decompressor(io.BytesIO(blob))
        (tmp_path / "layer.tar").write_bytes(b"".join(iter(lambda: stream.read(CHUNK), b"")))
    subprocess.run([tar, "-xf", tmp_path / "layer.tar", "-C", root], check=True)
    assert (root / "big").read_bytes() == (tmp_path / "big").read_bytes()
    assert (root / "hard").stat().st_ino == (root / "small").stat().st_ino
    assert (root / "soft").readlink() == Path("etc")
    assert (root / "etc").stat().st_mtime == 5


def test_the_index_is_what_a_reader_would_see(tmp_path: Path) -> None:
    rows = sample(tmp_path)
    result, _ = write(tmp_path, rows)
    index = LayerIndex.load(result.index)
    assert list(index.entries) == [
        entry._replace(mtime_ns=entry.mtime_ns // SECOND * SECOND) for entry, _ in rows
    ]
    assert index.files == {b"etc/passwd": b"root:"}


def test_user_and_group_files_are_kept_from_whatever_source(tmp_path: Path) -> None:
    (tmp_path / "group").write_bytes(b"wheel:x:10:\n")
    fd = os.open(tmp_path / "group", os.O_RDONLY)
    try:
        for source in (fd, FileAt(os.fsencode(tmp_path / "group")), b"wheel:x:10:\n"):
            result, _ = write(tmp_path, [(file(b"etc/group", 12), source)])
            assert LayerIndex.load(result.index).files == {b"etc/group": b"wheel:x:10:\n"}
    finally:
        os.close(fd)


def test_the_same_entries_give_the_same_layer(tmp_path: Path) -> None:
    for algorithm in ("zstd", "gzip"):
        compression = Compression.parse(algorithm)
        assert write(tmp_path, sample(tmp_path), compression) == write(
            tmp_path, sample(tmp_path), compression
        )


def test_times_are_clamped_from_above_only(tmp_path: Path) -> None:
    rows: Rows = [(file(b"old", 0, 3 * SECOND), None), (file(b"new", 0, 10**18), None)]
    result, _ = write(tmp_path, rows, clamp_mtime_ns=7 * SECOND + 1)
    assert [entry.mtime_ns for entry in LayerIndex.load(result.index).entries] == [3 * SECOND, 7 * SECOND]


def test_a_source_is_read_relative_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"here")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _, blob = write(tmp_path, [(file(b"g", 4), FileAt(b"f", fd))])
    finally:
        os.close(fd)
    assert blob[512:516] == b"here"


def test_a_file_of_another_owner_is_read(tmp_path: Path) -> None:
    users = Path("/etc/passwd")
    _, blob = write(tmp_path, [(file(b"f", users.stat().st_size), users)])
    assert users.read_bytes() in blob


@pytest.mark.parametrize("have", [0, 3, 5, 600])
@pytest.mark.parametrize("path", [b"src/f", b"etc/passwd"])
def test_a_source_of_another_length_is_a_layer_error_that_names_it(
    have: int, path: bytes, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(bytes(have))
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        for source in (FileAt(os.fsencode(tmp_path / "f")), bytes(have), fd):
            with pytest.raises(LayerError, match=path.decode()) as caught:
                write(tmp_path, [(file(path, 4), source)])
            assert caught.value.cure
    finally:
        os.close(fd)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"here")
    (tmp_path / "link").symlink_to("f")
    with pytest.raises(OSError, match="symbolic"):
        write(tmp_path, [(file(b"f", 4), tmp_path / "link")])


def test_a_fifo_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LayerError):
        write(tmp_path, [(file(b"f", 4), tmp_path / "fifo")])


def test_a_full_disk_is_an_oserror_and_leaves_no_thread(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(20 * CHUNK)
    full = os.open("/dev/full", os.O_WRONLY)
    before = threading.active_count()
    try:
        writer = LayerWriter(full, PLAIN)
        with pytest.raises(OSError, match="No space left"):
            writer.add(file(b"big", 20 * CHUNK), big)
    finally:
        os.close(full)
    assert threading.active_count() == before


def test_memory_does_not_grow_with_the_layer(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(300 * CHUNK)
    script = """
import os, sys
from minibuild.layers.compress import Compression
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.writer import FileAt, LayerWriter
size, path, algorithm = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with LayerWriter(os.open(os.devnull, os.O_WRONLY), Compression.parse(algorithm)) as writer:
    writer.add(Entry(b"f", Kind.FILE, 0o644, size=size), FileAt(path))
    writer.close()
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""
    peaks = []
    for size in (8, 300):
        os.truncate(big, size * CHUNK)
        command = [sys.executable, "-c", script, str(size * CHUNK), str(big), DEFAULT.algorithm]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 8 * 1024, f"peak KiB for 8 and 300 MiB: {peaks}"
