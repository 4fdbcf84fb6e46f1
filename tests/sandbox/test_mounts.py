"""Mounts of every kind, and that nothing of them stays behind."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from minibuild.errors import SandboxError
from minibuild.sandbox import overlay, syscalls
from minibuild.sandbox.spec import FolderMount, Rootfs, SecretFile, SnapshotMount, TmpfsMount
from tests.sandbox.conftest import Box, tree


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    """Two layers: the upper one replaces src/a and adds src/c."""
    low, high = tmp_path / "low", tmp_path / "high"
    for folder, names in ((low, "ab"), (high, "ac")):
        (folder / "src").mkdir(parents=True)
        for name in names:
            (folder / "src" / name).write_text(f"{folder.name} {name}")
    return low, high


def left(rootfs: Rootfs) -> list[str]:
    """What a run left in the upper folder, less the copied-up folder that its mounts were made in."""
    return [path for path in tree(rootfs.upper) if path != "etc/"]


def test_layers_are_seen_merged(box: Box, layers: tuple[Path, ...]) -> None:
    mount = SnapshotMount("/mnt", layers, "src")
    assert box.sh("cd /mnt; ls; cat a b", mounts=(mount,)).out == "a\nb\nc\nhigh alow b"


def test_a_snapshot_is_read_only_unless_asked(box: Box, layers: tuple[Path, ...]) -> None:
    mount = SnapshotMount("/mnt", layers)
    assert "Read-only file system" in box.sh("echo > /mnt/src/a", mounts=(mount,)).err
    single = SnapshotMount("/mnt", layers[:1], "src")
    assert "Read-only file system" in box.sh("echo > /mnt/a", mounts=(single,)).err


@pytest.mark.parametrize("on_disk", [False, True])
def test_writes_to_a_snapshot_are_thrown_away(
    box: Box, layers: tuple[Path, ...], tmp_path: Path, on_disk: bool
) -> None:
    scratch = box.folder / "scratch" if on_disk else None
    if scratch:
        scratch.mkdir()
    mount = SnapshotMount("/mnt", layers, "src", readonly=False)
    rootfs = box.rootfs()
    script = "cd /mnt; echo new > a; rm b; mkdir d; cat a; ls"
    assert box.sh(script, mounts=(mount,), rootfs=rootfs, scratch=scratch).out == "new\na\nc\nd\n"
    assert (layers[1] / "src/a").read_text() == "high a"
    assert left(rootfs) == []


def test_a_single_file_can_be_mounted(box: Box, layers: tuple[Path, ...]) -> None:
    mount = SnapshotMount("/etc/config", layers, "/src/a")
    rootfs = box.rootfs()
    assert box.sh("cat /etc/config", mounts=(mount,), rootfs=rootfs).out == "high a"
    assert not (rootfs.upper / "etc/config").exists()


def test_a_subpath_that_is_missing_is_named(box: Box, layers: tuple[Path, ...]) -> None:
    with pytest.raises(SandboxError, match=r"/mnt: nosuch: No such file"):
        box.sh("true", mounts=(SnapshotMount("/mnt", layers, "nosuch"),))


def test_a_subpath_never_leaves_its_layers(box: Box, layers: tuple[Path, ...], tmp_path: Path) -> None:
    (layers[0] / "out").symlink_to("../../../../../../etc")
    (layers[0] / "abs").symlink_to("/src/a")
    with pytest.raises(SandboxError, match="No such file"):
        box.sh("true", mounts=(SnapshotMount("/mnt", layers, "out"),))
    assert box.sh("cat /mnt", mounts=(SnapshotMount("/mnt", layers, "abs"),)).out == "high a"


def test_no_layers_are_an_empty_folder(box: Box) -> None:
    assert box.sh("ls /mnt; echo $?", mounts=(SnapshotMount("/mnt", ()),)).out == "0\n"


def test_a_cache_folder_keeps_what_is_written(box: Box) -> None:
    mount = FolderMount("/cache", box.folder / "caches" / "pip")
    box.sh("echo kept > /cache/x", mounts=(mount,))
    assert box.sh("cat /cache/x", mounts=(mount,)).out == "kept\n"


@pytest.mark.many_ids
def test_a_cache_folder_is_made_with_owner_and_mode(box: Box) -> None:
    mount = FolderMount("/cache", box.folder / "cache", mode=0o2750, uid=1000, gid=1001)
    assert box.sh("stat -c '%u %g %a' /cache", mounts=(mount,)).out == "1000 1001 2750\n"


@pytest.mark.many_ids
def test_a_cache_folder_that_exists_keeps_owner_and_mode(box: Box) -> None:
    box.sandbox.makedirs(box.folder / "cache", mode=0o700, uid=7, gid=8)
    mount = FolderMount("/cache", box.folder / "cache", mode=0o755)
    assert box.sh("stat -c '%u %g %a' /cache", mounts=(mount,)).out == "7 8 700\n"


def test_a_read_only_cache_folder_cannot_be_written(box: Box) -> None:
    mount = FolderMount("/cache", box.folder / "cache", readonly=True)
    assert "Read-only file system" in box.sh("touch /cache/x", mounts=(mount,)).err


def test_one_cache_folder_made_by_eight_at_once_is_the_same(box: Box) -> None:
    mount = FolderMount("/cache", box.folder / "cache", mode=0o777)
    roots = [box.rootfs() for _ in range(8)]
    threads = [
        threading.Thread(
            target=box.sh, args=(f"touch /cache/{n}",), kwargs={"mounts": (mount,), "rootfs": root}
        )
        for n, root in enumerate(roots)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert box.sh("ls /cache", mounts=(mount,)).out.split() == [str(n) for n in range(8)]
    assert not [name for name in os.listdir(box.folder) if name.startswith(".cache")]


def test_a_tmpfs_has_the_size_asked_for(box: Box) -> None:
    ran = box.sh("df -k /t | tail -1", mounts=(TmpfsMount("/t", 4 << 20),))
    assert ran.out.split()[1] == "4096"


def test_a_tmpfs_is_for_everybody(box: Box) -> None:
    assert box.sh("touch /t/x && stat -c %a /t", mounts=(TmpfsMount("/t"),), user="app").out == "1777\n"


@pytest.mark.many_ids
def test_a_secret_is_a_file_of_its_owner_and_gone_afterwards(box: Box) -> None:
    rootfs = box.rootfs()
    secret = SecretFile("/run/secrets/token", b"s3cret\x00", mode=0o440, uid=1000, gid=44)
    ran = box.sh(
        "stat -c '%u %g %a %s' /run/secrets/token; cat /run/secrets/token",
        mounts=(secret,),
        rootfs=rootfs,
        user="app",
    )
    assert ran.out == "1000 44 440 7\ns3cret\x00"
    assert left(rootfs) == []
    assert b"s3cret" not in b"".join(
        path.read_bytes() for path in box.folder.rglob("*") if path.is_file() and not path.is_symlink()
    )


@pytest.mark.many_ids
def test_a_secret_is_not_for_others(box: Box) -> None:
    assert box.sh("cat /s", mounts=(SecretFile("/s", b"x"),), user="app").code == 1


def test_a_large_secret_fits(box: Box) -> None:
    assert box.sh("wc -c < /s", mounts=(SecretFile("/s", bytes(3 << 20)),)).out.strip() == str(3 << 20)


def test_mounts_inside_mounts_go_outside_in(box: Box, layers: tuple[Path, ...]) -> None:
    mounts = (SecretFile("/work/tmp/secret", b"s"), TmpfsMount("/work/tmp"), TmpfsMount("/work"))
    assert box.sh("cat /work/tmp/secret", mounts=mounts).out == "s"


def test_a_mount_over_the_root_is_refused(box: Box, layers: tuple[Path, ...]) -> None:
    for target in ("/", "/bin/..", ""):
        with pytest.raises(SandboxError, match="root of the image"):
            box.sh("true", mounts=(TmpfsMount(target),))


def test_mount_points_that_had_to_be_made_are_taken_back(box: Box, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    (bare / "etc").mkdir()
    bare.chmod(0o755)
    os.link(box.image / "bin/busybox", bare / "bin/busybox")
    for folder in (bare / "etc", bare):
        os.utime(folder, (1, 1))
    rootfs = box.rootfs(bare)
    mounts = (TmpfsMount("/deep/down/t"), SecretFile("/deep/secret", b"x"), SecretFile("/etc/key", b"y"))
    ran = box.run(
        "/bin/busybox", "ls", "/dev/null", "/proc/self/exe", "/sys", "/deep", mounts=mounts, rootfs=rootfs
    )
    assert ran.code == 0
    assert left(rootfs) == []
    assert (rootfs.upper / "etc").stat().st_mtime == 1


def test_a_mount_point_that_came_to_hold_something_stays(box: Box) -> None:
    rootfs = box.rootfs()
    box.sh("touch /deep/down/mine", mounts=(TmpfsMount("/deep/down/t"),), rootfs=rootfs)
    assert left(rootfs) == ["deep/", "deep/down/", "deep/down/mine"]


def test_the_time_of_a_parent_that_changed_is_kept(box: Box) -> None:
    rootfs = box.rootfs()
    box.sh("touch /etc/mine; touch -d '2001-02-03 04:05:06' /etc", rootfs=rootfs)
    assert tree(rootfs.upper) == ["etc/", "etc/mine"]
    assert (rootfs.upper / "etc").stat().st_mtime == 981173106


def test_what_exists_in_the_image_is_not_touched(box: Box, new_image: Callable[..., Path]) -> None:
    image = new_image()
    (image / "etc/resolv.conf").write_text("of the image")
    rootfs = box.rootfs(image)
    assert "of the image" not in box.sh("cat /etc/resolv.conf", rootfs=rootfs).out
    assert (image / "etc/resolv.conf").read_text() == "of the image"
    assert left(rootfs) == []


def test_an_empty_image_runs_what_the_upper_folder_holds(box: Box) -> None:
    rootfs = box.rootfs()
    rootfs = type(rootfs)((), rootfs.upper, rootfs.work)
    (rootfs.upper / "busybox").write_bytes((box.image / "bin/busybox").read_bytes())
    (rootfs.upper / "busybox").chmod(0o755)
    assert box.run("/busybox", "touch", "/made", rootfs=rootfs).code == 0
    assert tree(rootfs.upper) == ["busybox", "made"]


def test_a_hundred_and_fifty_layers(box: Box) -> None:
    lowers = [box.image]
    for number in range(150):
        layer = box.folder / f"{number:064x}"
        (layer / "layers").mkdir(parents=True)
        (layer / "layers" / str(number)).touch()
        lowers.append(layer)
    assert box.sh("ls /layers | wc -l", rootfs=box.rootfs(*lowers)).out.strip() == "150"


@pytest.mark.parametrize("readonly", [True, False])
def test_kernels_that_take_layers_in_one_string_only_get_one(
    monkeypatch: pytest.MonkeyPatch, box: Box, readonly: bool
) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(errno.EINVAL, "as before Linux 6.5")

    if os.geteuid() != 0:
        pytest.skip("mounts without the holder are for root")
    monkeypatch.setattr(overlay, "_mount_by_context", refuse)
    lowers = []
    for number in range(150):
        lowers.append(box.folder / f"{number:064x}:,")
        lowers[-1].mkdir()
        (lowers[-1] / str(number)).touch()
    rootfs = box.rootfs(*lowers)
    upper, work = ("", "") if readonly else (str(rootfs.upper), str(rootfs.work))
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS, "unshare")
            syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE, "", "private")
            fd = overlay.mount(tuple(map(str, lowers)), upper, work, 0, "/", str(rootfs.work))
            found = len(os.listdir(f"/proc/self/fd/{fd}"))
            os._exit(0 if found == 150 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_too_many_layers_are_said_to_be(box: Box) -> None:
    with pytest.raises(SandboxError, match="501 layers, and overlayfs takes 500"):
        box.sh("true", rootfs=box.rootfs(*[box.image] * 501))


def test_names_with_separators_of_mount_options_are_fine(box: Box, tmp_path: Path) -> None:
    odd = box.folder / "a:b,c\\d e=f\n"
    odd.mkdir()
    (odd / "x").touch()
    assert box.sh("ls /x", rootfs=box.rootfs(box.image, odd)).code == 0


def test_a_root_file_system_can_be_continued(box: Box) -> None:
    rootfs = box.rootfs()
    box.sh("echo 1 > /one", rootfs=rootfs)
    box.sh("echo 2 > /two", rootfs=rootfs)
    assert box.sh("cat /one /two", rootfs=rootfs).out == "1\n2\n"


def test_the_root_folder_is_as_in_the_layer_below(box: Box) -> None:
    rootfs = box.rootfs()
    rootfs.upper.chmod(0o700)
    assert box.sh("stat -c %a /; cat /etc/passwd > /dev/null", rootfs=rootfs, user="app").out == "755\n"


def test_a_layer_folder_that_is_missing_is_named(box: Box, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"open layer folder .*nosuch: No such file"):
        box.sh("true", rootfs=box.rootfs(box.image, tmp_path / "nosuch"))
