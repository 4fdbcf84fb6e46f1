"""What doctor tells: modes tried in earnest, reasons with cures, facts about the store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.engine import doctor
from minibuild.engine.trial import known_to_work
from minibuild.errors import SandboxError
from minibuild.sandbox import cgroups, probe
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.limits import Limits
from minibuild.sandbox.spec import ISOLATIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def test_every_mode_is_reported_with_what_forces_it(store: Store) -> None:
    report = doctor.examine(store)
    assert [mode.mode for mode in report.modes] == [mode.value for mode in probe.Mode]
    assert all(mode.isolation in ISOLATIONS for mode in report.modes)
    assert all(mode.works or mode.reason for mode in report.modes)


def test_the_mode_it_names_is_the_one_a_build_gets(store: Store) -> None:
    report = doctor.examine(store)
    try:
        with Sandbox.start() as sandbox:
            assert report.mode == sandbox.mode
    except SandboxError:
        assert report.mode == ""


def test_the_json_has_modes_and_checks(store: Store) -> None:
    document = json.loads(json.dumps(doctor.examine(store).to_json()))
    assert {"isolation", "modes", "checks"} == set(document)
    assert {"kernel", "store", "disk space", "cgroups"} <= {check["name"] for check in document["checks"]}
    assert all(check["state"] in ("ok", "warning", "missing") for check in document["checks"])


def test_cgroups_are_told_by_trying_to_set_limits(store: Store) -> None:
    try:
        with cgroups.group(Limits(memory=1 << 30, cpus=1), 1):
            expected = "ok", "--memory and --cpus work"
    except SandboxError:
        expected = "warning", "--memory and --cpus have no effect"
    (told,) = [check for check in doctor.examine(store).checks if check.name == "cgroups"]
    assert told.state == expected[0] and expected[1] in told.value
    assert bool(told.cure) == (told.state == "warning")


def test_it_leaves_nothing_in_the_store(store: Store) -> None:
    doctor.examine(store)
    assert list(store.snapshots.names()) == []
    assert not [path for path in store.root.iterdir() if path.name.startswith(".doctor")]


def test_a_mode_that_worked_is_not_tried_again(store: Store) -> None:
    with Sandbox.start(trial=known_to_work(store)) as sandbox:
        (name,) = store.records("trials").names()
        assert name.startswith(sandbox.mode)
        sandbox.close()
        known_to_work(store)(sandbox)  # would raise if it ran anything


def test_a_trial_that_fails_leads_to_the_next_mode() -> None:
    seen: list[str] = []

    def refuse(sandbox: Sandbox) -> None:
        seen.append(sandbox.mode)
        raise SandboxError("mount refused", cure="Allow it.")

    with pytest.raises(SandboxError, match="mount refused"):
        Sandbox.start(trial=refuse)
    assert seen


def test_the_names_to_ask_by_are_those_of_the_ladder() -> None:
    assert set(ISOLATIONS) == set(probe.ISOLATIONS)


def test_the_command_prints_json_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minibuild", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={"MINIBUILD_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["isolation"] else 3)
