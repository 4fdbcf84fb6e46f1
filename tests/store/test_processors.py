"""How many processors may be used: the affinity, and the quotas of control groups, here of plain folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from minibuild_store.processors import bounds, own_groups, processors


class Machine:
    """A machine of 64 processors with control groups of both versions, and this process's folder in /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = folder / "proc"
        self.proc.mkdir()
        self.is_in("/a/b", "/a/b")

    def is_in(self, first: str, second: str, root: str = "/") -> None:
        """This process is in these groups; the mounts show what is below `root`."""
        (self.proc / "cgroup").write_text(
            f"4:memory:/m\n2:cpuacct,cpu:{first}\n1:name=systemd:/\n0::{second}\n"
        )
        (self.proc / "mountinfo").write_text(
            f"23 1 0:1 / /proc rw,nosuid - proc proc rw\n"
            f"41 31 0:38 {root} {self.folder}/v2 rw shared:9 - cgroup2 cgroup2 rw\n"
            f"32 31 0:29 {root} {self.folder}/v1 rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        )

    def group(self, path: str, **files: str) -> None:
        """A group with these files; those that it is in are made as well."""
        folder = self.folder / path
        for one in (folder, *folder.parents):
            if one == self.folder:
                break
            one.mkdir(exist_ok=True, parents=True)
            (one / "cgroup.procs").touch()
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text + "\n")

    @property
    def processors(self) -> int:
        return processors(str(self.proc))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    return Machine(tmp_path)


def test_without_quotas_the_affinity_counts(machine: Machine) -> None:
    machine.group("v2/a/b", cpu__max="max 100000")
    machine.group("v1/a/b", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert machine.processors == 64


@pytest.mark.parametrize(("quota", "count"), [(200_000, 2), (250_000, 3), (50_000, 1), (9_000_000, 64)])
def test_a_quota_counts_rounded_up(machine: Machine, quota: int, count: int) -> None:
    machine.group("v2/a/b", cpu__max=f"{quota} 100000")
    assert machine.processors == count


def test_the_least_quota_on_the_way_up_counts(machine: Machine) -> None:
    machine.group("v2/a/b", cpu__max="800000 100000")
    machine.group("v2/a", cpu__max="150000 50000")
    assert machine.processors == 3


def test_quotas_of_version_1_count(machine: Machine) -> None:
    machine.group("v1/a", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    machine.group("v1/a/b", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert machine.processors == 4


def test_a_container_sees_its_own_group_where_its_mount_begins(machine: Machine) -> None:
    machine.is_in("/docker/id", "/docker/id", root="/docker/id")
    machine.group("v1", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert machine.processors == 2
    machine.is_in("/", "/")  # with a name space of its own
    machine.group("v2", cpu__max="100000 100000")
    assert machine.processors == 1


def test_a_group_that_no_mount_shows_does_not_count(machine: Machine) -> None:
    machine.is_in("/elsewhere", "/elsewhere", root="/docker/id")
    machine.group("v2", cpu__max="100000 100000")
    assert machine.processors == 64
    assert own_groups(str(machine.proc)) == {}


def test_damaged_files_and_a_machine_without_any_count_as_no_quota(machine: Machine) -> None:
    machine.group("v2/a/b", cpu__max="")
    machine.group("v1/a/b", cpu__cfs_quota_us="many", cpu__cfs_period_us="0")
    machine.group("v1/a", cpu__cfs_quota_us="100000", cpu__cfs_period_us="0")
    assert machine.processors == 64
    (machine.proc / "mountinfo").write_text("nothing of the kind\n")
    assert machine.processors == 64
    (machine.proc / "cgroup").unlink()
    assert machine.processors == 64


def test_what_bounds_a_process_is_told_and_where(machine: Machine) -> None:
    machine.group("v2/a/b", pids__max="max", cpu__max="max 100000", memory__max="1048576")
    machine.group("v2/a", pids__max="100")
    machine.group("v1/a/b", cpu__cfs_quota_us="-1")
    machine.group("v1/a", cpu__cfs_quota_us="50000")
    assert [(path.removeprefix(str(machine.folder)), text) for path, text in bounds(str(machine.proc))] == [
        ("/v1/a/cpu.cfs_quota_us", "50000\n"),
        ("/v2/a/b/memory.max", "1048576\n"),
        ("/v2/a/pids.max", "100\n"),
    ]


def test_nothing_bounds_where_there_is_no_limit_or_no_group(machine: Machine) -> None:
    machine.group("v2/a/b", memory__max="max", pids__max="many")
    machine.group("v1/a/b", memory__limit_in_bytes="9223372036854771712")
    assert bounds(str(machine.proc)) == []
    (machine.proc / "cgroup").unlink()
    assert bounds(str(machine.proc)) == []


def test_this_machine_has_one_at_least() -> None:
    assert 1 <= processors() <= len(os.sched_getaffinity(0))
