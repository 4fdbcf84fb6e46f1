from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys

import pytest
import zstandard

from minibuild.errors import LayerError, UsageError
from minibuild.layers.compress import CHUNK, DEFAULT, Compression, decompressor
from minibuild.oci import mediatype

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(60_000))
NOISE = random.Random(1).randbytes(1_500_000)
LEVELS = [Compression.parse("gzip", n) for n in range(10)] + [Compression.parse("zstd", n) for n in (1, 3, 9)]


class Dribble:
    """A stream with `read` alone that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, 7))


def compressed(compression: Compression, data: bytes) -> bytes:
    compressor = compression.compressor()
    if compressor is None:
        return data
    pieces = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


def read_all(blob: bytes, media_type: str | None, size: int = 100_000) -> bytes:
    stream = decompressor(io.BytesIO(blob), media_type)
    return b"".join(iter(lambda: stream.read(size), b""))


@pytest.mark.parametrize("compression", [*LEVELS, Compression.parse("uncompressed")], ids=str)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE], ids=["empty", "tiny", "text", "noise"])
def test_what_is_compressed_reads_back(compression: Compression, data: bytes) -> None:
    blob = compressed(compression, data)
    assert read_all(blob, compression.media_type) == data
    assert read_all(blob, None) == data


@pytest.mark.parametrize("compression", LEVELS, ids=str)
def test_the_same_input_gives_the_same_bytes(compression: Compression) -> None:
    assert compressed(compression, TEXT) == compressed(compression, TEXT)


def test_gzip_carries_no_time_and_no_name() -> None:
    for level in (0, 1, 6):
        blob = compressed(Compression.parse("gzip", level), TEXT)
        assert blob[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
        assert gzip.decompress(blob) == TEXT


def test_zstd_frames_carry_neither_size_nor_checksum() -> None:
    parameters = zstandard.get_frame_parameters(compressed(DEFAULT, TEXT))
    assert parameters.content_size == zstandard.CONTENTSIZE_UNKNOWN
    assert not parameters.has_checksum


@pytest.mark.parametrize("level", [19, 20, 21, 22])
def test_no_zstd_level_has_a_larger_window_than_all_decoders_are_to_take(level: int) -> None:
    blob = compressed(Compression.parse("zstd", level), TEXT[:50_000])
    assert zstandard.get_frame_parameters(blob).window_size <= 8 << 20
    assert read_all(blob, mediatype.OCI_LAYER_ZSTD) == TEXT[:50_000]


def test_zstd_levels_to_19_are_written_as_by_zstd_itself() -> None:
    for level in (1, 3, 19):
        frame = zstandard.ZstdCompressor(level, write_content_size=False).compressobj()
        assert compressed(Compression.parse("zstd", level), TEXT) == frame.compress(TEXT) + frame.flush()


def test_the_highest_zstd_level_compresses_no_worse_than_those_below() -> None:
    nineteen, highest = (compressed(Compression.parse("zstd", level), TEXT) for level in (19, 22))
    assert len(highest) <= len(nineteen)


def test_gzip_members_one_after_the_other_are_one_stream() -> None:
    blob = compressed(Compression.parse("gzip"), TEXT) + gzip.compress(b"more")
    assert read_all(blob, mediatype.OCI_LAYER_GZIP) == TEXT + b"more"


def test_zstd_frames_with_skippable_ones_between_are_one_stream() -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    blob = skippable + compressed(DEFAULT, TEXT) + skippable + zstandard.compress(b"more")
    assert read_all(blob, mediatype.OCI_LAYER_ZSTD) == TEXT + b"more"
    assert read_all(blob, None) == TEXT + b"more"


@pytest.mark.parametrize("algorithm", ["gzip", "zstd", "uncompressed"])
@pytest.mark.parametrize("named", [True, False])
def test_a_source_that_gives_few_bytes_at_a_time_is_enough(algorithm: str, named: bool) -> None:
    compression = Compression.parse(algorithm)
    blob = compressed(compression, TEXT[:50_000])
    stream = decompressor(Dribble(blob), compression.media_type if named else None)
    assert b"".join(iter(lambda: stream.read(1000), b"")) == TEXT[:50_000]


def test_docker_media_types_are_known() -> None:
    assert read_all(gzip.compress(b"data"), mediatype.DOCKER_LAYER_GZIP) == b"data"
    assert read_all(b"\x1f\x8bdata", mediatype.DOCKER_LAYER) == b"\x1f\x8bdata"


@pytest.mark.parametrize("cut", [3, 1000, -4])
def test_gzip_cut_short_is_a_layer_error(cut: int) -> None:
    blob = compressed(Compression.parse("gzip"), NOISE)
    with pytest.raises(LayerError, match="gzip"):
        read_all(blob[:cut], mediatype.OCI_LAYER_GZIP)


@pytest.mark.parametrize("media_type", [mediatype.OCI_LAYER_GZIP, mediatype.OCI_LAYER_ZSTD])
def test_data_that_is_not_compressed_as_said_is_a_layer_error(media_type: str) -> None:
    with pytest.raises(LayerError, match="damaged"):
        read_all(TEXT, media_type)


@pytest.mark.parametrize(
    ("algorithm", "level", "want"),
    [
        ("zstd", None, ("zstd", 1)),
        ("zstd", "22", ("zstd", 22)),
        ("zstd", 0, ("zstd", 1)),
        ("gzip", None, ("gzip", 1)),
        ("gzip", 9, ("gzip", 9)),
        ("uncompressed", None, ("uncompressed", None)),
        ("uncompressed", 3, ("uncompressed", None)),
    ],
)
def test_levels_are_settled_when_parsed(algorithm: str, level: int | str | None, want: object) -> None:
    assert Compression.parse(algorithm, level) == want


@pytest.mark.parametrize(
    ("algorithm", "level"),
    [("lzma", None), ("", 1), ("zstd", 23), ("gzip", 10), ("gzip", -1), ("zstd", "fast")],
)
def test_what_cannot_be_had_is_a_usage_error_with_a_cure(algorithm: str, level: int | str | None) -> None:
    with pytest.raises(UsageError) as caught:
        Compression.parse(algorithm, level)
    assert caught.value.cure


def test_codecs_are_loaded_when_they_are_used_only() -> None:
    script = (
        "import sys, minibuild.layers.compress; print({'zstandard', 'isal', 'gzip'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
