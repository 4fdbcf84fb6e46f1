from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.merge import MergeLayer, merge_to_folder, merge_to_tar
from minibuild.layers.scan import index_blob
from minibuild.layers.tarheader import END, header, padding

ROOT = os.geteuid() == 0
SECOND = 10**9


def file(path: bytes, data: bytes = b"", mode: int = 0o644, **more: object) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, mode, size=len(data), **more), data  # type: ignore[arg-type]


def other(path: bytes, kind: Kind, mode: int = 0o755, **more: object) -> tuple[Entry, bytes]:
    return Entry(path, kind, mode, **more), b""  # type: ignore[arg-type]


def layer(*rows: tuple[Entry, bytes]) -> MergeLayer:
    blob = b"".join(header(entry) + data + bytes(padding(len(data))) for entry, data in rows) + END
    return MergeLayer(index_blob(io.BytesIO(blob), None, Digest.of(blob)), partial(io.BytesIO, blob))


BASE = layer(
    other(b"usr", Kind.DIR, 0o755, mtime_ns=5 * SECOND),
    file(b"usr/a", b"old"),
    file(b"usr/b", b"content", 0o755, mtime_ns=7 * SECOND),
    other(b"usr/same", Kind.HARDLINK, link=b"usr/b"),
    other(b"link", Kind.SYMLINK, link=b"usr"),
)
TOP = layer(file(b"usr/.wh.a"), file(b"etc/new", b"new"), file(b"usr/c", b"c"))


def tar_of(layers: list[MergeLayer], **options: object) -> bytes:
    out = io.BytesIO()
    merge_to_tar(layers, out, **options)  # type: ignore[arg-type]
    return out.getvalue()


def test_the_tar_has_directories_first_and_then_files_in_layer_order() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of([BASE, TOP]))) as tar:
        assert tar.getnames() == ["etc", "usr", "usr/b", "usr/same", "link", "etc/new", "usr/c"]
        assert tar.getmember("usr/same").linkname == "usr/b"
        assert tar.getmember("usr").mtime == 5


def test_the_tar_is_the_same_each_time() -> None:
    assert tar_of([BASE, TOP]) == tar_of([BASE, TOP])


def test_several_platforms_share_one_tar_under_prefixes() -> None:
    data = tar_of([BASE], prefix=b"linux_amd64", end=False) + tar_of([TOP], prefix=b"linux_arm64")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert names[0] == "linux_amd64" and "linux_arm64/etc/new" in names
        assert tar.getmember("linux_amd64/usr/same").linkname == "linux_amd64/usr/b"
        assert tar.getmember("linux_amd64/link").linkname == "usr"


def test_one_time_can_be_put_in_place_of_all(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of([BASE], mtime_ns=9 * SECOND))) as tar:
        assert {member.mtime for member in tar} == {9}
    merge_to_folder([BASE], tmp_path, mtime_ns=9 * SECOND)
    assert {path.lstat().st_mtime for path in tmp_path.rglob("*")} == {9}


def test_a_hard_link_whose_file_is_gone_becomes_the_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of([BASE, layer(file(b"usr/.wh.b"))]))) as tar:
        assert "usr/b" not in tar.getnames()
        content = tar.extractfile("usr/same")
        assert content is not None and content.read() == b"content"


def test_gnu_tar_reads_the_tar(tmp_path: Path) -> None:
    subprocess.run(["tar", "-C", tmp_path, "-xf", "-"], input=tar_of([BASE, TOP]), check=True)
    assert (tmp_path / "usr/b").stat().st_ino == (tmp_path / "usr/same").stat().st_ino
    assert (tmp_path / "etc/new").read_bytes() == b"new"


def test_a_blob_is_read_no_further_than_its_last_file_that_shows() -> None:
    blob = b"".join(header(e) + d + bytes(padding(len(d))) for e, d in [file(b"a", b"x"), file(b"b", b"y")])
    whole = blob + END
    index = index_blob(io.BytesIO(whole), None, Digest.of(whole))
    cut = MergeLayer(index, partial(io.BytesIO, whole[:1024] + b"damaged".ljust(512)))
    with tarfile.open(fileobj=io.BytesIO(tar_of([cut, layer(file(b".wh.b"))]))) as tar:
        assert tar.getnames() == ["a"]
    with pytest.raises(LayerError):
        tar_of([cut])


def test_an_index_of_another_layer_is_noticed() -> None:
    with pytest.raises(LayerError, match="index"):
        tar_of([MergeLayer(BASE.index, TOP.open)])


# -- into a folder


def test_files_replace_what_is_there_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir(mode=0o500)
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "inside").write_bytes(b"")
    os.chmod(tmp_path / "usr", 0o700)
    (tmp_path / "usr/b").write_bytes(b"before")
    (tmp_path / "usr/same").symlink_to("b")
    os.chmod(tmp_path / "usr", 0o500)
    before = (tmp_path / "usr/b").stat().st_ino
    merge_to_folder([BASE, TOP], tmp_path)
    assert (tmp_path / "usr/b").read_bytes() == b"content"
    assert before != (tmp_path / "usr/b").stat().st_ino == (tmp_path / "usr/same").lstat().st_ino
    assert os.readlink(tmp_path / "link") == "usr"
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "usr/a").exists()
    assert stat.S_IMODE((tmp_path / "usr").stat().st_mode) == 0o755
    assert (tmp_path / "usr").stat().st_mtime == 5
    assert sorted(os.listdir(tmp_path)) == ["etc", "link", "mine", "usr"]


def test_everything_else_goes_where_asked(tmp_path: Path) -> None:
    (tmp_path / "mine/deep").mkdir(parents=True)
    (tmp_path / "mine/deep/f").write_bytes(b"")
    (tmp_path / "out").symlink_to(tmp_path)
    merge_to_folder([TOP], tmp_path, delete=True)
    assert sorted(os.listdir(tmp_path)) == ["etc", "usr"]
    assert os.listdir(tmp_path / "usr") == ["c"]


def test_closed_folders_of_ours_are_no_obstacle(tmp_path: Path) -> None:
    closed = tmp_path / "etc/new/closed/deep"
    closed.mkdir(parents=True)
    (closed / "f").write_bytes(b"")
    for folder in (closed, closed.parent, tmp_path / "etc"):
        os.chmod(folder, 0)
    merge_to_folder([TOP], tmp_path)
    assert (tmp_path / "etc/new").read_bytes() == b"new"


def test_links_in_the_folder_are_replaced_and_never_followed(tmp_path: Path) -> None:
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    (outside / "b").write_bytes(b"alive")
    dest.mkdir()
    (dest / "usr").symlink_to(outside)
    (dest / "etc").mkdir()
    (dest / "etc/new").symlink_to(outside / "b")
    merge_to_folder([BASE, TOP], dest, delete=True)
    assert (outside / "b").read_bytes() == b"alive"
    assert os.listdir(outside) == ["b"]
    assert not (dest / "usr").is_symlink() and not (dest / "etc/new").is_symlink()


def test_hostile_layers_write_nothing_outside_the_folder(tmp_path: Path) -> None:
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    target = os.fsencode(outside)
    hostile = layer(
        other(b"l", Kind.SYMLINK, link=target),
        file(b"l/a", b"dead"),
        other(b"k", Kind.SYMLINK, link=target + b"/new"),
        file(b"k", b"dead"),
        other(b"m", Kind.SYMLINK, link=b"../outside"),
    )
    merge_to_folder([hostile, layer(file(b"l/b"), file(b"m/c"), file(b"l/.wh.a"))], dest)
    assert os.listdir(outside) == []
    assert {*os.listdir(dest)} == {"k", "l", "m", target.decode().split("/")[1]}


@pytest.mark.skipif(not ROOT, reason="only root may give files away")
def test_root_keeps_owners_unless_told_otherwise(tmp_path: Path) -> None:
    rows = [file(b"f", b"x", 0o4755, uid=12, gid=0), other(b"n", Kind.CHAR, 0o666, device=(1, 3))]
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    assert merge_to_folder([layer(*rows)], theirs) == []
    merge_to_folder([layer(*rows)], mine, owners=False)
    info = (theirs / "f").stat()
    assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (12, 0o4755)
    assert stat.S_ISCHR((theirs / "n").stat().st_mode)
    info = (mine / "f").stat()
    assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (0, 0o755)


def test_devices_that_may_not_be_made_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refuse)  # what root is spared and everybody else meets
    rows = [other(b"n", Kind.CHAR, device=(1, 3)), other(b"m", Kind.HARDLINK, link=b"n"), file(b"f")]
    assert merge_to_folder([layer(*rows)], tmp_path) == [b"m", b"n"]
    assert os.listdir(tmp_path) == ["f"]
