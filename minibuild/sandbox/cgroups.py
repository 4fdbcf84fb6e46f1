"""A control group for one process, where this user may make one (cgroups(7), cgroup-v2.rst).

Version 2: in the nearest group above ours that hands the controllers on, so one that systemd has
delegated, or root. Version 1: below ours, in the hierarchies of the controllers. Nothing is switched
on or moved that was there before.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from minibuild_store.processors import own_groups

from minibuild.errors import SandboxError
from minibuild.sandbox.limits import Limits

_PERIOD_US: Final = 100_000
_PREFIX: Final = "minibuild-"
_CURE: Final = (
    "Run as root, or as a user to whom systemd delegates the controllers: systemd-run --user --scope"
    " -p Delegate=yes."
)
_CURE_OF_ROOT: Final = (
    "In a container, start it with --privileged, or give the limits to the container (docker run --memory)."
)


@contextlib.contextmanager
def group(limits: Limits, number: int) -> Iterator[tuple[Path, ...]]:
    """The groups, one a hierarchy, that hold a process to `limits`; it joins each by itself.

    `number` tells the groups of this process apart. Raises `SandboxError` where limits cannot be set.
    """
    name = f"{_PREFIX}{os.getpid()}-{number}"
    made: list[Path] = []
    parent = Path("/sys/fs/cgroup")
    try:
        try:
            for parent, settings in _places(limits):
                _sweep(parent)
                folder = parent / name
                folder.mkdir()
                made.append(folder)
                _set(folder, settings)
                _check_joinable(folder)
        except OSError as error:
            raise SandboxError(f"{parent}: {(error.strerror or str(error)).lower()}", cure=_CURE) from None
        yield tuple(made)
    finally:
        for folder in made:
            _remove(folder)


def _places(limits: Limits) -> list[tuple[Path, dict[str, str]]]:
    """Where groups are to be made, and what is written to their files."""
    groups = own_groups()
    unified = Path(groups[""]) if "" in groups else None
    wanted = [name for name, value in (("memory", limits.memory), ("cpu", limits.cpus)) if value]
    found: dict[Path, dict[str, str]] = {}
    for controller in wanted:
        if controller in groups:
            found.setdefault(Path(groups[controller]), {}).update(_first(controller, limits))
        else:
            parent = _delegated(unified, controller)
            if parent is None:
                raise _not_handed_on(unified, controller)
            found.setdefault(parent, {}).update(_second(controller, limits))
    return list(found.items())


def _first(controller: str, limits: Limits) -> dict[str, str]:
    if controller == "memory":
        return {
            "memory.limit_in_bytes": str(limits.memory),
            "?memory.memsw.limit_in_bytes": str(limits.memory),
        }
    quota = max(1000, int(limits.cpus * _PERIOD_US))
    return {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota)}


def _second(controller: str, limits: Limits) -> dict[str, str]:
    if controller == "memory":
        return {"memory.max": str(limits.memory), "?memory.swap.max": "0"}
    return {"cpu.max": f"{max(1000, int(limits.cpus * _PERIOD_US))} {_PERIOD_US}"}


def _delegated(group: Path | None, controller: str) -> Path | None:
    """The nearest group above `group` that hands `controller` on and in which we may make groups."""
    while group is not None and (group / "cgroup.controllers").exists():
        with contextlib.suppress(OSError):
            controllers = (group / "cgroup.subtree_control").read_text().split()
            if controller in controllers and os.access(group, os.W_OK):
                return group
        group = group.parent
    return None


def _not_handed_on(own: Path | None, controller: str) -> SandboxError:
    """Why no group hands `controller` on: `own`, that may be changed, holds processes, or none is ours."""
    if own is not None and os.access(own / "cgroup.subtree_control", os.W_OK):
        return SandboxError(
            f"{own} may hand the controller {controller} on, but not while it holds processes itself"
            " (cgroup-v2.rst)",
            cure=f"Before: cd {own} && mkdir inner && for p in $(cat cgroup.procs); do"
            " echo $p > inner/cgroup.procs; done; echo '+memory +cpu' > cgroup.subtree_control. Of a service"
            " of systemd 254 or newer, DelegateSubgroup=inner does the first half.",
        )
    message = f"the controller {controller} is not handed on to this user"
    return SandboxError(message, cure=_CURE if os.geteuid() else _CURE_OF_ROOT)


def _set(folder: Path, settings: dict[str, str]) -> None:
    """Write the settings; one whose name begins with ? may be missing from this kernel."""
    for name, value in settings.items():
        try:
            (folder / name.removeprefix("?")).write_text(value)
        except OSError:
            if not name.startswith("?"):
                raise


def _check_joinable(folder: Path) -> None:
    """Raise `OSError` unless a child of ours may join the group."""
    import subprocess

    done = subprocess.run(
        ["sh", "-c", 'echo 0 > "$0"', folder / "cgroup.procs"], capture_output=True, check=False
    )
    if done.returncode:
        raise PermissionError(1, "processes may not be moved here", str(folder))


def _sweep(parent: Path) -> None:
    """Remove what processes that were killed have left."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _remove(folder: Path) -> None:
    for _ in range(100):  # the kernel takes a moment to forget the last process
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
