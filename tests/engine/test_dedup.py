"""cache dedup: equal files of unpacked layers share their blocks, on file systems made for the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.extents import BLOCK, blocks, can_share, share
from minibuild_store.store import Store

from minibuild.layers.dedup import Dedup, dedup
from tests.feature.conftest import bases, lacking, project, sandbox_works
from tests.feature.project import Project

__all__ = ["bases", "project", "sandbox_works"]

MAKE = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}
SIZE = 400 << 20  # xfs makes none smaller than 300 MiB; the file is sparse


@pytest.fixture(scope="module", params=sorted(MAKE))
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty file system whose files can share blocks."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount it")
    make: list[str] = MAKE[request.param]
    if shutil.which(make[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        lacking(f"{make[0]} is not installed")
    with tempfile.TemporaryDirectory() as name:
        image, folder = Path(name, "image"), Path(name, "mounted")
        with image.open("wb") as file:
            file.truncate(SIZE)
        folder.mkdir()
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        subprocess.run([*make, str(image)], check=True, capture_output=True, env={"PATH": path}, timeout=120)
        mounted = subprocess.run(
            ["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, timeout=120
        )
        if mounted.returncode:
            pytest.skip(f"this machine mounts no {request.param}: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True, timeout=120)


@pytest.fixture
def folder(disk: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=disk) as name:
        yield Path(name)


def place(path: Path) -> object:
    with path.open("rb") as file:
        return blocks(file.fileno())


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def state(path: Path) -> tuple[object, ...]:
    info = path.stat()
    return info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_nlink


def test_equal_files_come_to_lie_in_one_place_and_stay_what_they_are(folder: Path) -> None:
    data = os.urandom(3 * BLOCK + 5)
    one, two = write(folder / "a/deep/one", data), write(folder / "b/two", data)
    os.chown(two, 12, 34)
    two.chmod(0o4700)
    os.utime(two, ns=(1, 2))
    before = state(one), state(two)
    done = dedup([str(folder / "a"), str(folder / "b")])
    assert done == Dedup(2, 2 * len(data), 1, len(data), 0, 0)
    assert place(one) == place(two) is not None
    assert (state(one), state(two)) == before and two.read_bytes() == data
    assert dedup([str(folder)]) == Dedup(2, 2 * len(data), 0, 0, len(data), 0)


def test_what_is_written_to_later_gets_a_place_of_its_own(folder: Path) -> None:
    data = os.urandom(4 * BLOCK)
    one, two = write(folder / "one", data), write(folder / "two", data)
    assert dedup([str(folder)]).shared_files == 1
    with two.open("r+b") as file:
        file.write(b"other")
    assert one.read_bytes() == data and two.read_bytes() == b"other" + data[5:]


def test_files_of_one_size_with_other_bytes_share_nothing(folder: Path) -> None:
    for number in range(4):
        write(folder / str(number), os.urandom(2 * BLOCK))
    assert dedup([str(folder)])[2:] == (0, 0, 0, 0)


def test_the_kernel_refuses_what_differs_in_one_byte(folder: Path) -> None:
    data = bytearray(os.urandom(2 * BLOCK))
    one = write(folder / "one", data)
    data[-1] ^= 1
    two = write(folder / "two", data)
    with one.open("rb") as source, two.open("rb") as target:
        assert share(source.fileno(), target.fileno(), len(data)) == 0
    assert two.read_bytes() == data


def test_a_large_file_is_shared_in_steps_and_holes_stay(folder: Path) -> None:
    for name in ("one", "two"):
        with (folder / name).open("wb") as file:
            file.write(b"begin" * 5000)
            file.seek(33 << 20)
            file.write(b"end" * 5000)
    done = dedup([str(folder)])
    assert done.shared_files == 1 and done.failed == 0
    assert (folder / "two").read_bytes() == (folder / "one").read_bytes()
    assert place(folder / "one") == place(folder / "two")


def test_names_of_one_file_count_once_and_links_are_not_followed(folder: Path) -> None:
    data = os.urandom(BLOCK)
    one = write(folder / "one", data)
    os.link(one, folder / "same")
    (folder / "soft").symlink_to("one")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    assert dedup([str(folder)]) == Dedup(1, BLOCK, 0, 0, 0, 0)


def test_a_dry_run_says_how_much_and_shares_nothing(folder: Path) -> None:
    data = os.urandom(BLOCK)
    one, two = write(folder / "one", data), write(folder / "two", data)
    assert dedup([str(folder)], dry_run=True)[2:4] == (1, BLOCK)
    assert place(one) != place(two)


def test_all_of_many_equal_files_end_in_one_place(folder: Path) -> None:
    data = os.urandom(2 * BLOCK)
    files = [write(folder / str(number), data) for number in range(6)]
    assert dedup([str(folder / "gone")]) == Dedup()
    dedup([str(folder)])
    assert len({place(path) for path in files}) == 1


TEXT = """
FROM busybox
RUN head -c 300000 /dev/zero | tr '\\0' a > /one && echo {number} > /two
"""


@pytest.fixture
def on_disk(project: Project, folder: Path) -> Project:
    """A project whose store is on the file system."""
    project.store = folder / "store"
    project.environment["MINIBUILD_ROOT"] = str(project.store)
    for number in range(2):
        project.built("-t", f"app{number}", text=TEXT.format(number=number))
    return project


def test_layers_of_a_store_share_and_builds_on_them_go_on(on_disk: Project) -> None:
    said = json.loads(on_disk.command("cache", "dedup", "--dry-run", "--json").out)
    done = json.loads(on_disk.command("cache", "dedup", "--json").out)
    assert said["shared_bytes"] == done["shared_bytes"] >= 300_000 and not done["failed"]
    assert "0B now share" in on_disk.command("cache", "dedup").out
    with Store.open(on_disk.store) as store:
        found = [
            path
            for name in store.snapshots.names()
            for path in Path(str(store.snapshots.path(name))).glob("one")
        ]
    assert len(found) == 2 and place(found[0]) == place(found[1])
    image = on_disk.image(text="FROM app0\nRUN echo more >> /one\n")
    assert image.text("one").endswith("more\n") and found[0].stat().st_size == 300_000
    assert on_disk.command("cache", "verify").code == 0


def test_what_goes_away_meanwhile_is_passed_over(on_disk: Project) -> None:
    on_disk.command("rmi", "app0")
    on_disk.command("cache", "prune", "--all")
    assert on_disk.command("cache", "dedup").code == 0


def test_a_file_system_that_cannot_is_named_and_nothing_is_changed(project: Project, tmp_path: Path) -> None:
    project.built(text=TEXT.format(number=1))
    if can_share(tmp_path):
        pytest.skip("the tests' own folder can share")
    done = project.command("cache", "dedup")
    assert done.code == 3 and "cannot share" in done.error and "btrfs" in done.error
