from __future__ import annotations

import errno
import io
import json
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged
from minibuild_store.store import Store

from minibuild.errors import OutputError
from minibuild.exporters import target
from minibuild.exporters.archive import write_archive
from minibuild.exporters.assemble import assemble
from minibuild.exporters.image import Image
from minibuild.layers.compress import Compression
from minibuild.oci.reference import Reference
from tests.exporters.images import StoredBlobs, members

ONE = Reference.parse("registry.example/one:1")
TWO = Reference.parse("two")
GZIP = Compression.parse("gzip")


def test_every_blob_holds_what_its_name_promises(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    found = {name: data for name, data in members(tmp_path / "x.tar").items() if name.startswith("blobs")}
    assert len(found) == 4
    assert all(name == f"blobs/sha256/{Digest.of(data).hex}" for name, data in found.items())


def test_members_are_sorted_and_belong_to_nobody_at_no_time(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    with tarfile.open(tmp_path / "x.tar") as archive:
        found = archive.getmembers()
    assert [member.name for member in found] == sorted(member.name for member in found)
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in found} == {(0, 0, "", 0)}
    assert [member.name for member in found][:2] == ["blobs", "blobs/sha256"]


def test_equal_images_give_equal_archives(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_archive(assemble([image]), tmp_path / name, blobs=blobs, names=[ONE])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_image_without_a_name_has_none_in_the_index(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    entry = json.loads(members(tmp_path / "x.tar")["index.json"])["manifests"][0]
    assert list(entry["annotations"]) == ["org.opencontainers.image.created"]


def test_names_are_in_the_index(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs, names=[ONE, TWO])
    entries = json.loads(members(tmp_path / "x.tar")["index.json"])["manifests"]
    assert [one["annotations"]["io.containerd.image.name"] for one in entries] == [str(ONE), str(TWO)]


def test_a_stream_in_memory_gets_the_same_bytes_as_a_file(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    result = write_archive(assemble([image]), stream, blobs=blobs)
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    assert stream.getvalue() == (tmp_path / "x.tar").read_bytes()
    assert result.dest == "-"


def test_a_pipe_gets_the_same_bytes_as_a_file(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    reading, writing = os.pipe()
    got: list[bytes] = []
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as stream:
        thread = threading.Thread(target=lambda: got.append(source.read()))
        thread.start()
        write_archive(assemble([image]), stream, blobs=blobs)
        stream.close()
        thread.join()
    assert got == [(tmp_path / "x.tar").read_bytes()]


def test_a_file_opened_for_appending_gets_the_same_bytes(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    with (tmp_path / "y.tar").open("ab") as stream:
        write_archive(assemble([image]), stream, blobs=blobs)
    assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()


def test_a_named_pipe_is_written_through_and_stays(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    thread.start()
    write_archive(assemble([image]), tmp_path / "pipe", blobs=blobs)
    thread.join()
    assert got[0].startswith(b"blobs/")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_reader_that_went_away_is_told_as_such(image: Image, blobs: StoredBlobs) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream, pytest.raises(OutputError) as caught:
        write_archive(assemble([image]), stream, blobs=blobs)
    assert "has ended" in caught.value.message


def test_missing_parent_folders_are_made(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_archive(assemble([image]), tmp_path / "a/b/x.tar", blobs=blobs)
    assert (tmp_path / "a/b/x.tar").is_file()


def test_an_old_file_is_replaced_and_keeps_its_mode(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("old")
    (tmp_path / "x.tar").chmod(0o600)
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    assert (tmp_path / "x.tar").stat().st_mode & 0o777 == 0o600
    assert "index.json" in members(tmp_path / "x.tar")


def test_a_link_stays_a_link_and_its_target_is_written(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("real.tar")
    write_archive(assemble([image]), tmp_path / "link", blobs=blobs)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.tar").is_file()


def test_a_folder_in_place_of_the_file_is_refused(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_archive(assemble([image]), tmp_path, blobs=blobs)
    assert "tar=false" in caught.value.cure


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    image: Image, blobs: StoredBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x.tar").write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(target, "copy_in_kernel", full)
    with pytest.raises(OutputError) as caught:
        write_archive(assemble([image]), tmp_path / "out/x.tar", blobs=blobs)
    assert "no space left" in caught.value.message
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.tar"]
    assert (tmp_path / "out/x.tar").read_text() == "old"


def test_a_device_that_is_full_is_told_as_such(image: Image, blobs: StoredBlobs) -> None:
    with pytest.raises(OutputError, match="no space left"):
        write_archive(assemble([image]), Path("/dev/full"), blobs=blobs)


def test_a_store_blob_of_the_wrong_size_ends_the_export(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    path = store.blobs.path(image.layers[0].descriptor.digest)
    path.unlink()
    path.write_bytes(b"half")
    with pytest.raises(BlobDamaged):
        write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)
    assert not (tmp_path / "x.tar").exists()


def test_bytes_are_copied_by_hand_where_the_kernel_cannot(
    image: Image, blobs: StoredBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(assemble([image]), tmp_path / "x.tar", blobs=blobs)

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(os, "sendfile", refuse)
    write_archive(assemble([image]), tmp_path / "y.tar", blobs=blobs)
    assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()
