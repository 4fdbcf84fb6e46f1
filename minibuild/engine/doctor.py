"""What this machine lets a build do: each mode of isolation tried in earnest, and what stands in the way.

Nothing is changed outside the store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any, Final, Literal

from minibuild_store.store import Store

from minibuild.engine import doctorchecks
from minibuild.engine.trial import trial
from minibuild.errors import MinibuildError, SandboxError
from minibuild.oci.reference import Reference
from minibuild.registry.options import RegistryOptions
from minibuild.sandbox import probe
from minibuild.sandbox.client import Sandbox
from minibuild.values import asdict, dataclass

State = Literal["ok", "warning", "missing"]

NAMES: Final = {
    probe.Mode.ROOT: "root",
    probe.Mode.ALL_IDS: "userns",
    probe.Mode.SUBUID: "userns",
    probe.Mode.SINGLE: "single-id",
    probe.Mode.CHROOT: "chroot",
}
"""What to say to --isolation for each mode."""

PROMISES: Final = {
    probe.Mode.ROOT: "namespaces of root; true owners",
    probe.Mode.ALL_IDS: "a user namespace with every id of this one; true owners",
    probe.Mode.SUBUID: "a user namespace with the user's subordinate ids; true owners",
    probe.Mode.SINGLE: "a user namespace of one id; owners recorded for the layer, not seen in RUN",
    probe.Mode.CHROOT: "a private folder as root; no namespaces, so RUN is not contained",
}


@dataclass(frozen=True, slots=True)
class ModeReport:
    """A rung of the ladder: whether it works here, and if not, why and what would change that.

    `isolation` is what forces it. `possible` is false where it is for another kind of user.
    """

    mode: str
    isolation: str
    promise: str
    works: bool
    possible: bool
    reason: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One fact about the machine; `cure` is a command, or what to change."""

    name: str
    state: State
    value: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """`mode` is what a build would run in, "" where RUN cannot be executed."""

    mode: str
    modes: tuple[ModeReport, ...]
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``minibuild doctor --json`` prints them."""
        return {
            "isolation": self.mode,
            "modes": [asdict(mode) for mode in self.modes],
            "checks": [asdict(check) for check in self.checks],
        }


def examine(
    store: Store,
    *,
    registries: Sequence[Reference] = (),
    options: RegistryOptions | None = None,
) -> Report:
    """Look at everything; takes a tenth of a second, and what the registries take."""
    machine = probe.look()
    modes = tuple(_mode(store, machine, mode) for mode in probe.Mode)
    works = next((report.mode for report in modes if report.works), "")
    checks = (
        *doctorchecks.machine_checks(machine),
        *doctorchecks.store_checks(store),
        _oci_runtime(store),
        _git(),
        *(_registry(ref, options or RegistryOptions()) for ref in registries),
    )
    return Report(works, modes, tuple(Check(*found) for found in checks))


def _mode(store: Store, machine: probe.Machine, mode: probe.Mode) -> ModeReport:
    possible = not probe.hopeless(mode)
    try:
        error = probe.obstacle(machine, mode)
        if error is not None:
            raise error
        with Sandbox.start_in(mode) as sandbox:
            trial(store, sandbox)
    except SandboxError as refusal:
        return ModeReport(
            mode.value, NAMES[mode], PROMISES[mode], False, possible, refusal.message, refusal.cure
        )
    return ModeReport(mode.value, NAMES[mode], PROMISES[mode], True, possible)


def _oci_runtime(store: Store) -> doctorchecks.Found:
    """Only --isolation oci needs one."""
    try:
        with Sandbox.start("oci", trial=lambda sandbox: trial(store, sandbox)) as sandbox:
            return "OCI runtime", "ok", f"--isolation oci works: {sandbox.mode}", ""
    except SandboxError as error:
        return "OCI runtime", "ok", f"not used: {error.message}", ""


def _git() -> doctorchecks.Found:
    path = shutil.which("git")
    if path is None:
        return "git", "warning", "not installed; only git contexts need it", "apt-get install git"
    return "git", "ok", path, ""


def _registry(ref: Reference, options: RegistryOptions) -> doctorchecks.Found:
    from minibuild.registry.client import Registry

    name = f"registry {ref.registry}"
    try:
        with Registry(options) as registry:
            found = registry.head(ref)
    except MinibuildError as error:
        return name, "missing", error.message, error.cure
    except OSError as error:
        return name, "missing", f"{os.strerror(error.errno or 0)}", ""
    if found is None:
        return name, "warning", f"answers, and has no {ref.familiar}", ""
    return name, "ok", f"{ref.familiar} is {found.digest}", ""
