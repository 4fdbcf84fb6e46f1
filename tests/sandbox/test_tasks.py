"""Layers in and out of folders with owners that only the sandbox may set, and folders made and removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import LayerError, MinibuildError
from minibuild.layers.compress import DEFAULT
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.writer import LayerResult, LayerWriter
from minibuild.sandbox.spec import ProcessSpec, Rootfs
from tests.sandbox.conftest import Box


def diff(box: Box, rootfs: Rootfs, blob: Path) -> tuple[LayerResult, dict[str, Entry]]:
    fd = os.open(blob, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        result = box.sandbox.diff(rootfs, fd, DEFAULT)
    finally:
        os.close(fd)
    return result, {os.fsdecode(entry.path): entry for entry in LayerIndex.load(result.index).entries}


def write_layer(path: Path, *entries: Entry) -> LayerResult:
    with path.open("wb") as file, LayerWriter(file.fileno()) as writer:
        for entry in entries:
            writer.add(entry, b"" if entry.kind is Kind.FILE else None)
        return writer.close()


def test_a_run_that_changes_nothing_is_an_empty_layer(box: Box, tmp_path: Path) -> None:
    rootfs = box.rootfs()
    box.sh("true", rootfs=rootfs)
    assert diff(box, rootfs, tmp_path / "blob")[1] == {}


def test_any_owner_is_seen_in_the_diff(box: Box, tmp_path: Path) -> None:
    rootfs = box.rootfs()
    box.sh("touch /f; chown 1234:5678 /f; mkdir -m 2750 /d; chown 65000 /d; ln -s x /l", rootfs=rootfs)
    _result, entries = diff(box, rootfs, tmp_path / "blob")
    assert {path: (entry.uid, entry.gid, entry.mode) for path, entry in entries.items()} == {
        "f": (1234, 5678, 0o644),
        "d": (65000, 0, 0o2750),
        "l": (0, 0, 0o777),
    }


def test_a_deletion_is_a_whiteout_only_where_something_was(box: Box, tmp_path: Path) -> None:
    rootfs = box.rootfs()
    box.sh("rm /etc/passwd; touch /etc/x; rm /etc/x", rootfs=rootfs)
    assert set(diff(box, rootfs, tmp_path / "blob")[1]) == {"etc", "etc/.wh.passwd"}


def test_several_layers_below_are_compared_with_as_one(box: Box, tmp_path: Path) -> None:
    second = box.folder / "second"
    (second / "etc").mkdir(parents=True)
    (second / "etc/extra").touch()
    rootfs = box.rootfs(box.image, second)
    box.sh("rm /etc/passwd /etc/extra", rootfs=rootfs)
    found = set(diff(box, rootfs, tmp_path / "blob")[1])
    assert found == {"etc", "etc/.wh.passwd", "etc/.wh.extra"}


def test_a_file_capability_is_kept(box: Box, tmp_path: Path) -> None:
    # struct vfs_cap_data, revision 2: cap_net_bind_service, effective and permitted
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    layer = Entry(b"server", Kind.FILE, 0o755, xattrs=((b"security.capability", value),))
    made = write_layer(tmp_path / "blob", layer)
    folder = box.folder / "layer"
    folder.mkdir()
    box.sandbox.unpack(tmp_path / "blob", made.media_type, folder, made.diff_id)
    result, entries = diff(box, Rootfs((), folder, box.folder / "work"), tmp_path / "out")
    assert dict(entries["server"].xattrs)[b"security.capability"] == value
    assert result.diff_id == made.diff_id


@pytest.mark.many_ids
def test_unpacking_restores_owners_and_a_diff_gives_the_same_layer(box: Box, tmp_path: Path) -> None:
    made = write_layer(
        tmp_path / "blob",
        Entry(b"d", Kind.DIR, 0o1755, uid=33, gid=34, mtime_ns=1_000_000_000),
        Entry(b"d/f", Kind.FILE, 0o4755, uid=1000, gid=1001, mtime_ns=2_000_000_000),
        Entry(b"l", Kind.SYMLINK, 0o777, uid=5, gid=6, link=b"d/f", mtime_ns=3_000_000_000),
    )
    folder = box.folder / "layer"
    folder.mkdir()
    packed = box.sandbox.unpack(tmp_path / "blob", made.media_type, folder, made.diff_id)
    assert packed == made.index
    ran = box.sh("stat -c '%n %u %g %a %Y' /d /d/f /l", rootfs=box.rootfs(box.image, folder))
    assert ran.out.splitlines() == ["/d 33 34 1755 1", "/d/f 1000 1001 4755 2", "/l 5 6 777 3"]


def test_a_wrong_diff_id_is_refused(box: Box, tmp_path: Path) -> None:
    made = write_layer(tmp_path / "blob", Entry(b"f", Kind.FILE, 0o644))
    folder = box.folder / "layer"
    folder.mkdir()
    with pytest.raises(LayerError):
        box.sandbox.unpack(tmp_path / "blob", made.media_type, folder, Digest.of(b"other"))


def test_a_blob_that_is_no_layer_is_refused(box: Box, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"nonsense" * 1000)
    folder = box.folder / "layer"
    folder.mkdir()
    with pytest.raises(MinibuildError):
        box.sandbox.unpack(tmp_path / "blob", "", folder, Digest.of(b""))


def test_devices_of_a_layer_are_in_its_index(box: Box, tmp_path: Path) -> None:
    made = write_layer(tmp_path / "blob", Entry(b"null", Kind.CHAR, 0o666, device=(1, 3)))
    folder = box.folder / "layer"
    folder.mkdir()
    packed = box.sandbox.unpack(tmp_path / "blob", made.media_type, folder, made.diff_id)
    assert [entry.kind for entry in LayerIndex.load(packed).entries] == [Kind.CHAR]
    assert all(stat.S_ISCHR((folder / name).lstat().st_mode) for name in os.listdir(folder))


def test_everything_is_removed_whoever_it_belongs_to(box: Box) -> None:
    rootfs = box.rootfs()
    box.sh("mkdir -p /a/b; touch /a/b/c; chown -R 1000:1000 /a; chmod 000 /a/b /a", rootfs=rootfs)
    box.sandbox.remove(rootfs.upper)
    box.sandbox.remove(rootfs.work)
    assert not rootfs.upper.exists()
    assert not rootfs.work.exists()


def test_a_tree_deeper_than_a_path_can_say_is_removed(box: Box) -> None:
    rootfs = box.rootfs()
    script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; touch leaf"
    assert box.sh(script, rootfs=rootfs).code == 0
    box.sandbox.remove(rootfs.upper)
    assert not rootfs.upper.exists()


def test_links_are_removed_and_not_followed(box: Box, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").touch()
    folder = box.folder / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(kept)
    box.sandbox.remove(folder)
    (box.folder / "link").symlink_to(kept)
    box.sandbox.remove(box.folder / "link")
    assert (kept / "x").exists()
    assert os.listdir(box.folder) == []


def test_removing_what_is_not_there_is_fine(box: Box) -> None:
    box.sandbox.remove(box.folder / "nosuch" / "file")


@pytest.mark.many_ids
def test_a_folder_is_made_for_an_owner_of_the_image(box: Box) -> None:
    box.sandbox.makedirs(box.folder / "a/b", mode=0o710, uid=1000, gid=1001)
    rootfs = box.rootfs(box.image, box.folder / "a")
    assert box.sh("stat -c '%u %g %a' /b", rootfs=rootfs).out == "1000 1001 710\n"


def test_a_folder_that_an_owner_of_the_image_gets_takes_the_place_of_an_empty_one(box: Box) -> None:
    source, target = box.folder / "made", box.folder / "there"
    (source / "inside").mkdir(parents=True)
    target.mkdir()
    box.sandbox.place(source, target, mode=0o2750, uid=1234, gid=5678)
    assert not source.exists() and stat.S_IMODE(target.stat().st_mode) == 0o2750
    _result, entries = diff(box, Rootfs((), box.folder, box.folder / "none"), box.folder.parent / "blob")
    there = entries[str(target.relative_to(box.folder))]
    assert (there.uid, there.gid) == (1234, 5678)
    with pytest.raises((OSError, MinibuildError)):
        box.sandbox.place(box.image, target, mode=0o755, uid=0, gid=0)


def test_tasks_and_runs_share_a_sandbox(box: Box, tmp_path: Path) -> None:
    rootfs = box.rootfs()
    spec = ProcessSpec(argv=("/bin/touch", "/made"))
    assert box.sandbox.run(rootfs, spec).code == 0
    first = diff(box, rootfs, tmp_path / "one")[0]
    assert diff(box, rootfs, tmp_path / "two")[0].diff_id == first.diff_id
