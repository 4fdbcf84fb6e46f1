"""Where control groups of version 2 are made, and what is written: on folders laid out like one.

Whatever this machine has is tried in earnest by tests/feature/test_limits.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minibuild.errors import SandboxError
from minibuild.sandbox import cgroups
from minibuild.sandbox.limits import Limits

LIMITS = Limits(memory=64 << 20, cpus=1.5)


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session's group below a delegated one below the root, each handing on what stands in it."""
    found = tmp_path
    for name, handed_on in (("", "cpu memory pids"), ("user.service", "cpu memory pids"), ("scope", "")):
        found = found / name
        found.mkdir(exist_ok=True)
        (found / "cgroup.controllers").write_text("cpu memory pids\n")
        (found / "cgroup.subtree_control").write_text(f"{handed_on}\n")
    monkeypatch.setattr(cgroups, "own_groups", lambda: {"": str(found)})
    monkeypatch.setattr(cgroups, "_remove", lambda folder: None)  # its files would go with a real one
    return found


def test_a_group_is_made_beside_ours_where_the_controllers_are_handed_on(scope: Path) -> None:
    with cgroups.group(LIMITS, 7) as (folder,):
        assert folder == scope.parent / f"minibuild-{os.getpid()}-7"
        assert (folder / "memory.max").read_text() == str(64 << 20)
        assert (folder / "memory.swap.max").read_text() == "0"
        assert (folder / "cpu.max").read_text() == "150000 100000"
        assert (folder / "cgroup.procs").read_text() == "0\n"


def test_a_group_that_lacks_a_controller_is_passed_over(scope: Path) -> None:
    (scope.parent / "cgroup.subtree_control").write_text("pids\n")
    with cgroups.group(Limits(memory=1 << 20), 1) as (folder,):
        assert folder.parent == scope.parents[1]


@pytest.mark.parametrize(("user", "words"), [(1000, "Delegate=yes"), (0, "--privileged")])
def test_without_delegation_the_cure_is_told(
    scope: Path, monkeypatch: pytest.MonkeyPatch, user: int, words: str
) -> None:
    for folder in (scope.parent, scope.parents[1]):
        (folder / "cgroup.subtree_control").write_text("pids\n")
    (scope / "cgroup.subtree_control").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(SandboxError, match="memory is not handed on") as caught, cgroups.group(LIMITS, 1):
        pass
    assert words in caught.value.cure


def test_a_group_of_ours_that_holds_processes_is_told_with_what_empties_it(scope: Path) -> None:
    for folder in (scope.parent, scope.parents[1]):
        (folder / "cgroup.subtree_control").write_text("pids\n")
    with pytest.raises(SandboxError, match="holds processes itself") as caught, cgroups.group(LIMITS, 1):
        pass
    assert f"cd {scope} && mkdir inner" in caught.value.cure
