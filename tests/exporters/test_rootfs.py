from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.errors import OutputError, UsageError
from minibuild.exporters import rootfs
from minibuild.exporters.image import Image
from minibuild.exporters.rootfs import INDEXES, write_folder, write_tar
from minibuild.layers.entry import Entry, Kind
from tests.exporters.images import Maker, StoredBlobs, members


@pytest.fixture
def two_platforms(make: Maker) -> list[Image]:
    return [
        make.image(make.layer({"arch": name.encode()}), platform=f"linux/{name}")
        for name in ("amd64", "arm64")
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_holds_the_files_of_all_layers(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    result = write_folder([image], tmp_path / "out", blobs=blobs, store=store)
    assert tree(tmp_path / "out") == {"one": b"1\n", "two": b"22\n"}
    assert (result.kind, result.descriptor, result.dest) == ("local", None, str(tmp_path / "out"))


def test_what_a_later_layer_removes_is_not_there(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    image = make.image(make.layer({"one": b"1", "two": b"2"}), make.layer({".wh.one": b""}))
    write_folder([image], tmp_path / "out", blobs=blobs, store=store)
    assert tree(tmp_path / "out") == {"two": b"2"}


def test_other_files_of_the_folder_stay(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "one").write_text("old")
    write_folder([image], tmp_path, blobs=blobs, store=store)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "one").read_text() == "1\n"


def test_other_files_of_the_folder_go_where_asked(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    write_folder([image], out, blobs=blobs, store=store, delete=True)
    assert set(tree(out)) == {"one", "two"}


def test_everything_of_the_machine_is_not_deleted(image: Image, blobs: StoredBlobs, store: Store) -> None:
    with pytest.raises(OutputError, match="everything in /"):
        write_folder([image], Path("/"), blobs=blobs, store=store, delete=True)


def test_several_platforms_get_a_folder_each(
    two_platforms: list[Image], blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_folder(two_platforms, tmp_path / "out", blobs=blobs, store=store)
    assert tree(tmp_path / "out") == {"linux_amd64/arch": b"amd64", "linux_arm64/arch": b"arm64"}


def test_one_platform_gets_a_folder_of_its_own_where_asked(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_folder([image], tmp_path / "out", blobs=blobs, store=store, split=True)
    assert set(tree(tmp_path / "out")) == {"linux_amd64/one", "linux_amd64/two"}


def test_deletion_reaches_beside_the_folders_of_platforms(
    two_platforms: list[Image], blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "linux_amd64").mkdir(parents=True)
    (out / "linux_amd64/old").write_text("x")
    (out / "old").write_text("x")
    write_folder(two_platforms, out, blobs=blobs, store=store, delete=True)
    assert set(tree(out)) == {"linux_amd64/arch", "linux_arm64/arch"}


def test_several_platforms_do_not_fit_into_one_folder(
    two_platforms: list[Image], blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="overwrite"):
        write_folder(two_platforms, tmp_path / "out", blobs=blobs, store=store, split=False)


def test_a_time_may_be_put_in_place_of_all(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_folder([image], tmp_path / "out", blobs=blobs, store=store, mtime_ns=7_000_000_000)
    assert (tmp_path / "out/one").stat().st_mtime == 7


def test_a_full_disk_leaves_a_new_folder_unmade(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rootfs.merge_to_folder

    def full(*arguments: object, **options: object) -> None:
        real(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rootfs, "merge_to_folder", full)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="no space left"):
        write_folder([image], tmp_path / "there/out", blobs=blobs, store=store)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError):
        write_folder([image], tmp_path / "out", blobs=blobs, store=store)
    assert (tmp_path / "out").read_text() == "x"


def test_a_link_to_a_folder_is_written_into(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_folder([image], tmp_path / "link", blobs=blobs, store=store)
    assert (tmp_path / "link").is_symlink()
    assert set(tree(tmp_path / "real")) == {"one", "two"}


def test_a_folder_that_may_not_be_written_is_made_all_the_same(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    layer = make.layer_of(
        (Entry(b"shut", Kind.DIR, 0o555), b""), (Entry(b"shut/in", Kind.FILE, 0o400, size=1), b"x")
    )
    write_folder([make.image(layer)], tmp_path / "out", blobs=blobs, store=store)
    assert stat.S_IMODE((tmp_path / "out/shut").stat().st_mode) == 0o555
    (tmp_path / "out/shut").chmod(0o755)


def test_devices_are_made_or_named_in_the_result(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    layer = make.layer_of(
        (Entry(b"dev", Kind.DIR, 0o755), b""), (Entry(b"dev/null", Kind.CHAR, 0o666, device=(1, 3)), b"")
    )
    result = write_folder([make.image(layer)], tmp_path / "out", blobs=blobs, store=store)
    made = (tmp_path / "out/dev/null").exists()
    assert result.left_out == (() if made else ("dev/null",))


def test_an_index_is_read_off_a_layer_once(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_folder([image], tmp_path / "out", blobs=blobs, store=store)
    assert sorted(store.records(INDEXES).names()) == sorted(layer.diff_id for layer in image.layers)


def test_an_index_of_another_version_is_read_off_again(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    for layer in image.layers:
        store.records(INDEXES).put(layer.diff_id, b"version 0")
    write_folder([image], tmp_path / "out", blobs=blobs, store=store)
    assert set(tree(tmp_path / "out")) == {"one", "two"}


def test_a_tar_holds_the_files_of_all_layers_with_their_owners(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    entry = Entry(b"mine", Kind.FILE, 0o640, uid=1000, gid=1001, size=1, mtime_ns=5_000_000_000)
    image = make.image(make.layer({"one": b"1"}), make.layer_of((entry, b"x")))
    result = write_tar([image], tmp_path / "x.tar", blobs=blobs, store=store)
    with tarfile.open(tmp_path / "x.tar") as archive:
        found = archive.getmember("mine")
    assert (found.uid, found.gid, found.mode, found.mtime) == (1000, 1001, 0o640, 5)
    assert members(tmp_path / "x.tar") == {"one": b"1", "mine": b"x"}
    assert (result.kind, result.dest) == ("tar", str(tmp_path / "x.tar"))


def test_a_tar_goes_to_a_stream(image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path) -> None:
    stream = io.BytesIO()
    write_tar([image], stream, blobs=blobs, store=store)
    write_tar([image], tmp_path / "x.tar", blobs=blobs, store=store)
    assert stream.getvalue() == (tmp_path / "x.tar").read_bytes()


def test_a_tar_of_several_platforms_has_a_folder_for_each(
    two_platforms: list[Image], blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_tar(two_platforms, tmp_path / "x.tar", blobs=blobs, store=store)
    assert members(tmp_path / "x.tar") == {"linux_amd64/arch": b"amd64", "linux_arm64/arch": b"arm64"}


def test_a_damaged_layer_leaves_no_tar(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    path = blobs.store.blobs.path(image.layers[0].descriptor.digest)
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(os.urandom(size))
    with pytest.raises(Exception, match="damaged"):
        write_tar([image], tmp_path / "x.tar", blobs=blobs, store=store)
    assert not (tmp_path / "x.tar").exists()
