"""ADD of archives that are damaged or cut short: an error, and never a part of what should be there."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile

import pytest
import zstandard

from tests.feature.project import Project

PACKED = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
TEXT = "FROM scratch\nLABEL a=b\nADD {} /x/\n"


def tar(count: int = 300, size: int = 4096, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """Of files that no compressor makes much smaller: bzip2 takes two blocks for them."""
    source = random.Random(count)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"file{number}")
            member.size = size
            archive.addfile(member, io.BytesIO(source.randbytes(size)))
    return buffer.getvalue()


def refused(project: Project, name: str) -> str:
    done = project.build(text=TEXT.format(name))
    assert done.code == 2, done.err
    assert "Dockerfile:3" in done.error
    assert f"{name} cannot be unpacked: " in done.error
    assert done.error.endswith(
        "Make or fetch the archive again, or add it as it is with COPY or --unpack=false."
    )
    return done.error


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("left", [0.99, 0.91])
def test_an_archive_that_is_cut_short_is_refused(project: Project, kind: str, left: float) -> None:
    data = PACKED[kind](tar())
    project.write(f"a.{kind}", data[: int(len(data) * left)])
    refused(project, f"a.{kind}")


def test_an_archive_of_a_few_bytes_less_than_it_should_have_is_refused(project: Project) -> None:
    project.write("a.tgz", gzip.compress(tar(3))[:-1])
    refused(project, "a.tgz")


@pytest.mark.parametrize("kind", ["tar", "tar.zst"])
def test_an_archive_with_damage_inside_is_refused(project: Project, kind: str) -> None:
    data = bytearray(PACKED[kind](tar()))
    middle = len(data) // 2 // 4608 * 4608  # in the plain archive that is a header
    data[middle : middle + 8192] = b"x" * 8192
    project.write(f"a.{kind}", bytes(data))
    refused(project, f"a.{kind}")


def test_zstd_that_ends_between_two_blocks_is_refused(project: Project) -> None:
    # at the end of an entry: what is there is an archive that ends without the marks of its end
    block = 1 << 17
    data = tar(4, block - 512, tarfile.USTAR_FORMAT)
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    whole = compressor.compress(data[: 2 * block]) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    project.write("a.tar.zst", whole)
    assert "the zstd data is cut off" in refused(project, "a.tar.zst")


def test_frames_of_zstd_one_after_the_other_are_one_archive(project: Project) -> None:
    data = tar(4)
    pack = PACKED["tar.zst"]
    skipped = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"any"
    project.write("a.tar.zst", skipped + pack(data[:4608]) + skipped + pack(data[4608:]) + skipped)
    assert len(project.image(text=TEXT.format("a.tar.zst")).files) == 5


def test_what_is_cut_within_its_first_header_is_a_file_like_any_other(project: Project) -> None:
    for number, (kind, pack) in enumerate(PACKED.items()):
        data = pack(tar(1))[: 30 if kind != "tar.bz2" else 300]
        project.write(f"{number}", data)
        assert project.image(text=TEXT.format(number)).files[f"x/{number}"].data == data


def test_a_cut_archive_can_be_added_as_a_file(project: Project) -> None:
    data = gzip.compress(tar(3))[:-1]
    project.write("a.tgz", data)
    text = "FROM scratch\nADD --unpack=false a.tgz /x/\nCOPY a.tgz /y/\n"
    files = project.image(text=text).files
    assert files["x/a.tgz"].data == files["y/a.tgz"].data == data
