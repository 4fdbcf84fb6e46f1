"""Runs in a private tree, without namespaces or mounts: what changed, and what is put in for the time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minibuild.errors import Cancelled, SandboxError
from minibuild.layers.compress import DEFAULT
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import FolderMount, Rootfs, SecretFile, SnapshotMount, TmpfsMount
from tests.sandbox.conftest import Box

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def box(image: Path, tmp_path: Path) -> Iterator[Box]:
    folder = tmp_path / "box"
    trees = folder / "trees"
    trees.mkdir(parents=True)
    with Sandbox.start("chroot") as sandbox:
        sandbox.keep_trees(trees)
        yield Box(sandbox, image, folder)
        sandbox.remove(folder)


def layer_of(box: Box, rootfs: Rootfs) -> dict[str, Entry]:
    blob = box.folder / f"blob{box.count}"
    fd = os.open(blob, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        index = LayerIndex.load(box.sandbox.diff(rootfs, fd, DEFAULT).index)
    finally:
        os.close(fd)
    return {os.fsdecode(entry.path): entry for entry in index.entries}


def layer(box: Box, script: str, *lowers: Path) -> tuple[dict[str, Entry], Path]:
    """Run a script; what is in its layer, and its folder to run the next one on."""
    rootfs = box.rootfs(*lowers)
    ran = box.sh(script, rootfs=rootfs)
    assert ran.code == 0, ran.err
    return layer_of(box, rootfs), rootfs.upper


def trees(box: Box) -> list[Path]:
    return list((box.folder / "trees").iterdir())


def test_the_root_is_the_image_and_not_the_machine(box: Box) -> None:
    ran = box.sh("ls /; cat /etc/passwd | wc -l; ls /proc; pwd", cwd="/tmp")
    assert "trees" not in ran.out
    assert ran.out.split()[-2:] == ["3", "/tmp"]


def test_what_a_run_does_is_the_layer_with_true_owners(box: Box) -> None:
    found, _ = layer(box, "touch /f; chown 5:6 /f; ln -s f /l; mkdir -m 2750 /d; ln /f /h; rm /etc/group")
    assert {path: (entry.kind, entry.uid, entry.gid, entry.mode) for path, entry in found.items()} == {
        "d": (Kind.DIR, 0, 0, 0o2750),
        "etc": (Kind.DIR, 0, 0, 0o755),
        "etc/.wh.group": (Kind.FILE, 0, 0, 0),
        "f": (Kind.FILE, 5, 6, 0o644),
        "h": (Kind.HARDLINK, 5, 6, 0o644),
        "l": (Kind.SYMLINK, 0, 0, 0o777),
    }


def test_what_was_touched_and_left_as_it_was_is_no_change(box: Box) -> None:
    script = "chmod 600 /etc/group; chmod 644 /etc/group; mv /etc/passwd /p; mv /p /etc/passwd"
    assert layer(box, script)[0] == {}


def test_content_that_changed_under_an_old_time_is_found(box: Box) -> None:
    script = "cp -p /etc/group /g; sed -i s/root/toor/ /etc/group; touch -r /g /etc/group; rm /g"
    assert set(layer(box, script)[0]) == {"etc", "etc/group"}


def test_a_tree_put_in_the_place_of_another_hides_it(box: Box, image: Path) -> None:
    _, upper = layer(box, "mkdir -p /t/a/b; touch /t/a/1 /t/a/b/2 /t/keep")
    found, second = layer(box, "mv /t/a /t/old; mkdir /t/a; touch /t/a/new", image, upper)
    assert {"t/a", "t/a/new", "t/old/1", "t/old/b/2"} <= set(found)
    assert "t/keep" not in found
    ran = box.sh("ls /t /t/a", rootfs=box.rootfs(image, upper, second))
    assert ran.out.split() == ["/t:", "a", "keep", "old", "/t/a:", "new"]


def test_the_next_run_goes_on_with_the_tree(box: Box, image: Path) -> None:
    _, upper = layer(box, "echo 1 > /f")
    (first,) = trees(box)
    found, _ = layer(box, "cat /f; echo 2 >> /f", image, upper)
    assert set(found) == {"f"}
    assert trees(box) == [first]


def test_two_branches_do_not_share_a_tree(box: Box, image: Path) -> None:
    _, upper = layer(box, "echo 1 > /f")
    layer(box, "echo 2 > /only-here", image, upper)
    ran = box.sh("ls /", rootfs=box.rootfs(image, upper))
    assert "only-here" not in ran.out
    assert len(trees(box)) == 2


def test_a_failed_run_spoils_no_tree(box: Box, image: Path) -> None:
    _, upper = layer(box, "echo 1 > /f")
    assert box.sh("echo 2 > /f; false", rootfs=box.rootfs(image, upper)).code == 1
    assert trees(box) == []
    assert box.sh("cat /f", rootfs=box.rootfs(image, upper)).out == "1\n"


def test_a_failed_run_can_be_gone_on_with(box: Box) -> None:
    rootfs = box.rootfs()
    assert box.sh("echo 1 > /f; rm /etc/group; false", rootfs=rootfs).code == 1
    assert set(layer_of(box, rootfs)) == {"f", "etc", "etc/.wh.group"}
    assert box.sh("cat /f; ls /etc", rootfs=rootfs).out.split() == ["1", "hosts", "passwd", "resolv.conf"]
    assert set(layer_of(box, rootfs)) == {"f", "etc", "etc/.wh.group"}


def test_mounts_are_there_for_the_run_and_leave_nothing(box: Box, new_image: object) -> None:
    other = box.folder / "other"
    (other / "sub").mkdir(parents=True)
    (other / "sub/f").write_text("of another stage\n")
    mounts = (
        SnapshotMount("/mnt/here", (other,), "sub", readonly=False),
        FolderMount("/var/cache/x", box.folder / "cache", uid=5, mode=0o750),
        TmpfsMount("/scratch"),
        SecretFile("/run/secrets/s", b"value", uid=7),
    )
    rootfs = box.rootfs()
    script = """
        cat /mnt/here/f /run/secrets/s; echo changed > /mnt/here/f; touch /scratch/x /var/cache/x/kept
        stat -c %u:%a /var/cache/x /run/secrets/s
    """
    ran = box.sh(script, mounts=mounts, rootfs=rootfs)
    assert ran.out == "of another stage\nvalue5:750\n7:400\n"
    assert layer_of(box, rootfs) == {}
    assert (other / "sub/f").read_text() == "of another stage\n"
    assert (box.folder / "cache/kept").exists()
    found = subprocess.run(["grep", "-r", "value", box.folder], capture_output=True, check=False).stdout
    assert b"secrets" not in found


def test_a_mount_shows_what_several_layers_make_of_a_folder(box: Box, image: Path) -> None:
    _, one = layer(box, "mkdir -p /s/d; echo 1 > /s/d/f; echo 1 > /s/d/g; ln -s d /s/l")
    _, two = layer(box, "echo 2 > /s/d/f; rm /s/d/g; touch /s/d/h", image, one)
    for subpath in ("s/d", "s/l"):
        ran = box.sh("ls /m; cat /m/f", mounts=(SnapshotMount("/m", (image, one, two), subpath),))
        assert ran.out.split() == ["f", "h", "2"]


def test_a_mount_over_a_folder_of_the_image_hides_it_for_the_time(box: Box) -> None:
    rootfs = box.rootfs()
    ran = box.sh("ls /etc; rm -rf /etc/x", rootfs=rootfs, mounts=(TmpfsMount("/etc"),))
    assert "passwd" not in ran.out
    assert layer_of(box, rootfs) == {}


def test_a_cache_comes_home_when_the_run_is_cancelled(box: Box) -> None:
    cache = box.folder / "cache"
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    with pytest.raises(Cancelled):
        box.sh("echo x > /c/f; sleep 60", mounts=(FolderMount("/c", cache),), cancel=cancel)
    assert (cache / "f").read_text() == "x\n"
    assert trees(box) == []


def test_what_is_left_behind_is_killed(box: Box) -> None:
    mark = f"4{os.getpid()}"
    box.sh(f"(setsid nohup sleep {mark} > /dev/null 2>&1 &); (sleep {mark} &); true")
    for _ in range(20):
        running = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False).stdout
        if not running:
            return
        time.sleep(0.05)
    pytest.fail("a process is left")


def test_a_user_of_the_image_is_real(box: Box) -> None:
    ran = box.sh("id -u; touch /etc/x; touch /home/app/f 2>/dev/null; su app -c id", user="app")
    assert ran.out.split()[0] == "1000"
    assert "Permission denied" in ran.err
    assert box.sh("su -s /bin/sh app -c 'id -u'").out.strip() == "1000"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"network": "none"}, "namespaces"), ({"insecure": True}, "no more rights")],
)
def test_what_it_cannot_give_is_refused(box: Box, options: dict[str, object], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        box.sh("true", **options)


def test_links_of_a_hostile_image_lead_nowhere_outside(box: Box, new_image: object, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = box.folder / "hostile"
    hostile.mkdir()
    for name in ("dev", "mnt", "var"):
        (hostile / name).symlink_to(outside)
    (hostile / "etc").mkdir()
    (hostile / "etc/resolv.conf").symlink_to(outside / "resolv.conf")
    mounts = (SecretFile("/mnt/secret", b"value"), FolderMount("/var/cache", box.folder / "cache"))
    with contextlib.suppress(SandboxError):
        box.sh("true", rootfs=box.rootfs(box.image, hostile), mounts=mounts)
    assert list(outside.iterdir()) == []


_TRACED = """
import ctypes, os, time
from minibuild.sandbox import chroot
libc = ctypes.CDLL(None)
chroot.adopt()
victim = os.fork()
if victim == 0:
    time.sleep(600)
read, write = os.pipe()
if os.fork() == 0:
    assert libc.ptrace(0x4206, victim, None, None) == 0  # PTRACE_SEIZE
    os.write(write, b"x")
    time.sleep(600)
os.read(read, 1)
chroot.kill_children(())
try:
    os.wait()
except ChildProcessError:
    print("none left")
"""


def test_a_process_that_another_traces_is_no_obstacle_to_ending_both() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRACED],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.stdout == "none left\n", done.stderr
