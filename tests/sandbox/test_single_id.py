"""Owners in a user namespace of a single id: seen by nobody inside, and true in the layer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import SandboxError
from minibuild.layers import owners
from minibuild.layers.compress import DEFAULT
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.writer import LayerWriter
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import FolderMount, Rootfs, SecretFile
from tests.sandbox.conftest import Box, boxed

Seen = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def single() -> Iterator[Sandbox]:
    try:
        started = Sandbox.start("single-id")
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error.message}")
    with started:
        yield started


@pytest.fixture
def box(single: Sandbox, image: Path, tmp_path: Path) -> Iterator[Box]:
    with boxed(single, image, tmp_path / "box") as box:
        yield box


def layer_of(box: Box, rootfs: Rootfs) -> list[Entry]:
    blob = box.folder / f"blob{box.count}"
    fd = os.open(blob, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return list(LayerIndex.load(box.sandbox.diff(rootfs, fd, DEFAULT).index).entries)
    finally:
        os.close(fd)


def layer(box: Box, script: str, *lowers: Path, user: str = "") -> tuple[Seen, Path]:
    """Run a script; the owners in its layer, and its folder to run the next one on."""
    rootfs = box.rootfs(*lowers)
    ran = box.sh(script, rootfs=rootfs, user=user)
    assert ran.code == 0, ran.err
    found = {os.fsdecode(entry.path): (entry.uid, entry.gid) for entry in layer_of(box, rootfs)}
    return found, rootfs.upper


def unpacked(box: Box, name: str, *entries: Entry) -> Path:
    blob, root = box.folder / f"{name}.blob", box.folder / name
    with blob.open("wb") as file, LayerWriter(file.fileno()) as writer:
        for entry in entries:
            writer.add(entry, b"" if entry.kind is Kind.FILE else None)
        result = writer.close()
    root.mkdir()
    box.sandbox.unpack(blob, result.media_type, root, Digest(result.diff_id))
    return root


def test_everything_seems_to_belong_to_root(box: Box) -> None:
    ran = box.sh("id -u; touch /f; chown 1234:5678 /f; stat -c %u:%g /f")
    assert ran.out.split() == ["0", "0:0"]


def test_the_layer_has_the_owners_that_were_given(box: Box) -> None:
    script = """
        touch /f /g; chown 1234:5678 /f; chown 7:8 /g
        mkdir -m 2750 /d; chown -R 65000 /d
        ln -s nowhere /l; chown -h 5:6 /l; mknod /p p; chown 9 /p
        touch /back; chown 3:3 /back; chown 0:0 /back
    """
    assert layer(box, script)[0] == {
        "f": (1234, 5678),
        "g": (7, 8),
        "d": (65000, 0),
        "l": (5, 6),
        "p": (9, 0),
        "back": (0, 0),
    }


def test_owners_stay_through_renames_links_and_later_steps(box: Box, image: Path) -> None:
    first, upper = layer(box, "mkdir /d; touch /d/f; ln -s f /d/l; chown -Rh 5:6 /d")
    assert set(first.values()) == {(5, 6)}
    second, _ = layer(box, "chmod 700 /d/f; mv /d/f /d/g; ln /d/g /d/h; ln -s x /d/n", image, upper)
    assert second == {"d": (5, 6), "d/.wh.f": (0, 0), "d/g": (5, 6), "d/h": (5, 6), "d/n": (0, 0)}


def test_giving_a_file_away_clears_what_the_kernel_clears(box: Box) -> None:
    ran = box.sh("touch /f; chmod 6755 /f; chown 5 /f; stat -c %a /f")
    assert ran.out.strip() == "755"


def test_a_number_that_is_used_again_does_not_pass_an_owner_on(box: Box) -> None:
    script = "for i in 1 2 3 4 5; do ln -s t /l; chown -h 5:6 /l; rm /l; done; ln -s t /l"
    assert layer(box, script)[0] == {"l": (0, 0)}


def test_a_file_written_anew_keeps_the_owner_its_writer_could_not_see(box: Box, image: Path) -> None:
    _, upper = layer(box, "echo a > /shadow; chown 0:42 /shadow; echo a > /other; chown 0:42 /other")
    script = """
        cp /shadow /shadow-; chown $(stat -c %u:%g /shadow) /shadow-
        echo b > /new; chown $(stat -c %u:%g /shadow) /new; mv /new /shadow
        echo b > /new; mv /new /other
    """
    found, second = layer(box, script, image, upper)
    assert found == {"shadow": (0, 42), "shadow-": (0, 42), "other": (0, 0)}
    found, _ = layer(box, "chmod 600 /shadow", image, upper, second)
    assert found == {"shadow": (0, 42)}


def test_layers_are_unpacked_with_owners_beside_them(box: Box, image: Path) -> None:
    root = unpacked(
        box,
        "base",
        Entry(b"d", Kind.DIR, 0o755, 5, 6),
        Entry(b"d/f", Kind.FILE, 0o4755, 7, 8),
        Entry(b"d/l", Kind.SYMLINK, 0o777, 9, 10, link=b"f"),
        Entry(b"d/r", Kind.FILE, 0o644),
    )
    assert os.stat(root / "d/f").st_uid == os.geteuid()
    assert os.getxattr(root / "d/f", owners.ATTRIBUTE) == b"7:8"
    found, _ = layer(box, "touch -h /d/l; chmod 700 /d/f; chmod 600 /d/r; mkdir /d/n", image, root)
    assert found == {"d": (5, 6), "d/f": (7, 8), "d/r": (0, 0), "d/n": (0, 0), "d/l": (0, 0)}


def test_a_user_of_the_image_has_its_number_and_its_files(box: Box, image: Path) -> None:
    _, below = layer(box, "mkdir -m 777 /w; touch /w/roots; chmod 666 /w/roots")
    ran = box.sh("id -u; id -g; touch /w/x; stat -c %u /w/x", user="app", rootfs=box.rootfs(image, below))
    assert ran.out.split() == ["1000", "1001", "1000"]
    script = "touch /w/f; ln -s f /w/l; mkdir /w/d; echo >> /w/roots; chgrp 44 /w/d"
    found, upper = layer(box, script, image, below, user="app")
    assert found == {
        "w": (0, 0),
        "w/f": (1000, 1001),
        "w/l": (1000, 1001),
        "w/d": (1000, 44),
        "w/roots": (0, 0),
    }
    found, _ = layer(box, "chmod 700 /w/d /w/f", image, below, upper)
    assert found["w/d"] == (1000, 44)


@pytest.mark.parametrize("script", ["chown 0 /home/app/f", "chgrp 99 /home/app/f"])
def test_a_user_of_the_image_gives_nothing_away(box: Box, script: str) -> None:
    ran = box.sh(f"touch /home/app/f; {script}", user="app")
    assert ran.code != 0
    assert "not permitted" in ran.err


def test_changing_the_user_seems_to_work(box: Box) -> None:
    ran = box.sh("su -s /bin/sh app -c 'echo ran'")
    assert (ran.code, ran.out.strip()) == (0, "ran"), ran.err


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("chown 5 /missing", "No such file"),
        ("chown 5 /sys/kernel", "Read-only"),
        ("mknod /n c 1 3", "not permitted"),
    ],
)
def test_what_fails_elsewhere_fails_here(box: Box, script: str, message: str) -> None:
    ran = box.sh(script)
    assert ran.code != 0
    assert message in ran.err


def test_paths_are_resolved_as_the_caller_sees_them(box: Box) -> None:
    script = """
        mkdir -p /a/b /jail/bin /jail/etc; cp /bin/busybox /jail/bin; touch /a/f /jail/etc/f /etc/f
        cd /a/b; chown 5 ../f; ln -s ../f up; chown 6 up; ln -s /a/f abs; chown 6:7 abs
        chroot /jail /bin/busybox chown 8 /etc/f
        chown 9 /dev/stdout
    """
    found, _ = layer(box, script)
    assert found["a/f"] == (6, 7)
    assert found["jail/etc/f"] == (8, 0)
    assert found["etc/f"] == (0, 0)
    assert found["a/b/up"] == (0, 0)


def test_cache_mounts_remember_owners(box: Box) -> None:
    cache = FolderMount("/cache", box.folder / "cache", uid=5, gid=6)
    assert box.sh("touch /cache/f; chown 7:8 /cache/f", mounts=(cache,)).code == 0
    assert os.getxattr(box.folder / "cache", owners.ATTRIBUTE) == b"5:6"
    assert os.getxattr(box.folder / "cache/f", owners.ATTRIBUTE) == b"7:8"


def test_a_secret_of_another_user_can_be_read(box: Box) -> None:
    secret = SecretFile("/s", b"value", uid=1000, gid=1001)
    assert box.sh("cat /s", user="app", mounts=(secret,)).out == "value"


def test_apt_is_told_to_stay_root_and_no_layer_hears_of_it(box: Box) -> None:
    rootfs = box.rootfs()
    ran = box.sh("cat $APT_CONFIG", rootfs=rootfs, env=(("PATH", "/bin"), ("APT_CONFIG", "/etc/mine")))
    assert ran.out == '#include "/etc/mine";\nAPT::Sandbox::User "root";\n'
    assert layer_of(box, rootfs) == []


def test_insecure_steps_are_supervised_too(box: Box) -> None:
    rootfs = box.rootfs()
    assert box.sh("touch /f; chown 5 /f", rootfs=rootfs, insecure=True).code == 0
    assert [(entry.uid, entry.gid) for entry in layer_of(box, rootfs)] == [(5, 0)]


def test_runs_side_by_side_do_not_mix(box: Box) -> None:
    from concurrent.futures import ThreadPoolExecutor

    script = "i=0; while [ $i -lt 40 ]; do touch /f$i; chown {0}:{0} /f$i; i=$((i+1)); done"

    def one(number: int, rootfs: Rootfs) -> set[int]:
        assert box.sh(script.format(number), rootfs=rootfs).code == 0
        return {entry.uid for entry in layer_of(box, rootfs)}

    roots = [box.rootfs() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, (11, 22, 33, 44), roots)) == [{11}, {22}, {33}, {44}]
