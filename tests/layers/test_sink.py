from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minibuild.layers.compress import CHUNK, Compression, decompressor
from minibuild.layers.sink import LayerSink

NOISE = random.Random(3).randbytes(9 * CHUNK + 12_345)
TEXT = b"a text that repeats itself and goes on\n" * 200_000
COMPRESSIONS = [Compression.parse(name) for name in ("zstd", "gzip", "uncompressed")]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before  # one of an earlier test may have ended


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def plain(blob: bytes, compression: Compression) -> bytes:
    stream = decompressor(io.BytesIO(blob), compression.media_type)
    return b"".join(iter(lambda: stream.read(CHUNK), b""))


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda value: value.algorithm)
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, len(NOISE)])
def test_digests_and_sizes_are_those_of_the_bytes(compression: Compression, size: int, target: int) -> None:
    sink = LayerSink(target, compression)
    sink.write(NOISE[:size])
    done = sink.close()
    blob = content(target)
    assert plain(blob, compression) == NOISE[:size]
    assert done.diff_id == "sha256:" + hashlib.sha256(NOISE[:size]).hexdigest()
    assert done.digest == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert (done.size, done.uncompressed_size) == (len(blob), size)


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda value: value.algorithm)
@pytest.mark.parametrize("data", [TEXT, NOISE], ids=["text", "noise"])
def test_how_the_bytes_arrive_does_not_change_the_blob(
    compression: Compression, data: bytes, target: int, tmp_path: Path
) -> None:
    whole = LayerSink(target, compression)
    whole.write(data)
    source = tmp_path / "source"
    source.write_bytes(data)
    rng = random.Random(4)
    with (tmp_path / "other").open("wb") as other, source.open("rb", buffering=0) as reader:
        pieces = LayerSink(other.fileno(), compression)
        while pieces.position < len(data):
            size = min(rng.choice([1, 100, 70_000, 2 * CHUNK + 5]), len(data) - pieces.position)
            if rng.random() < 0.5:
                pieces.write(data[pieces.position : pieces.position + size])
            else:
                reader.seek(pieces.position)
                pieces.copy(reader.fileno(), size)
        assert pieces.close() == whole.close()


@pytest.mark.parametrize("size", [0, 10, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("before", [0, 1, CHUNK - 10])
def test_a_copy_says_how_much_there_was(size: int, before: int, target: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(NOISE[:size])
    with LayerSink(target, COMPRESSIONS[2]) as sink, source.open("rb", buffering=0) as reader:
        sink.write(bytes(before))
        assert sink.copy(reader.fileno(), size) == size
        assert sink.position == before + size
        reader.seek(0)
        assert sink.copy(reader.fileno(), size + 5) == size
        if size:
            reader.seek(0)
            assert sink.copy(reader.fileno(), size - 1) == size


@pytest.mark.parametrize("size", [0, 10, 511, 512, CHUNK - 1, CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("before", [0, 5, CHUNK - 10])
def test_a_member_is_its_head_its_content_and_its_tail(
    size: int, before: int, target: int, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(NOISE[:size])
    seen = hashlib.sha256()
    with LayerSink(target, COMPRESSIONS[2]) as sink, source.open("rb", buffering=0) as reader:
        sink.write(bytes(before))
        assert sink.member(b"head", reader.fileno(), size, b"tail", seen.update) == size
        assert sink.position == before + 4 + size + 4
        done = sink.close()
    assert seen.digest() == hashlib.sha256(NOISE[:size]).digest()
    whole = bytes(before) + b"head" + NOISE[:size] + b"tail"
    assert done.diff_id == "sha256:" + hashlib.sha256(whole).hexdigest()


def test_a_member_that_comes_in_parts_is_whole(target: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"first ")
    later = threading.Timer(0.05, lambda: (os.write(writer, b"second"), os.close(writer)))
    later.start()
    with LayerSink(target, COMPRESSIONS[2]) as sink:
        assert sink.member(b"<", reader, 12, b">") == 12
        assert sink.close().diff_id == "sha256:" + hashlib.sha256(b"<first second>").hexdigest()
    later.join()
    os.close(reader)


@pytest.mark.parametrize("size", [10, CHUNK])
def test_a_member_whose_source_has_another_length_says_so(size: int, target: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(NOISE[:size])
    with LayerSink(target, COMPRESSIONS[2]) as sink, source.open("rb", buffering=0) as reader:
        assert sink.member(b"", reader.fileno(), size + 5, b"") == size
        reader.seek(0)
        assert sink.member(b"", reader.fileno(), size - 1, b"") == size


def test_a_small_blob_starts_no_thread(target: int) -> None:
    with LayerSink(target, COMPRESSIONS[0]) as sink:
        sink.write(bytes(CHUNK - 1))
        assert all(thread.name != "layer" for thread in threading.enumerate())
        sink.write(b"x")
        assert any(thread.name == "layer" for thread in threading.enumerate())


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda value: value.algorithm)
@pytest.mark.parametrize("size", [10, len(NOISE)])
def test_a_full_disk_is_an_oserror_and_leaves_no_thread(compression: Compression, size: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"), LayerSink(full, compression) as sink:
            for start in range(0, size, 100_000):
                sink.write(NOISE[start : start + 100_000])
            sink.close()
    finally:
        os.close(full)


def test_a_full_disk_ends_a_long_stream_early() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with LayerSink(full, COMPRESSIONS[2]) as sink, pytest.raises(OSError, match="No space left"):
            for _ in range(1000):
                sink.write(bytes(CHUNK))
        assert sink.position < 20 * CHUNK
    finally:
        os.close(full)


def test_giving_up_half_way_leaves_no_thread(target: int) -> None:
    with pytest.raises(RuntimeError), LayerSink(target, COMPRESSIONS[0]) as sink:
        sink.write(NOISE)
        raise RuntimeError
    sink.abort()


def test_a_blob_is_written_from_the_offset_on(target: int) -> None:
    os.write(target, b"head")
    sink = LayerSink(target, COMPRESSIONS[2])
    sink.write(b"body")
    assert sink.close().size == 4
    assert content(target) == b"headbody"
