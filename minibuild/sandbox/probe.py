"""What this machine lets us do, and which mode of isolation follows from it.

A mode is chosen from facts that are cheap to read; whether the kernel really agrees shows when the
holder starts, and `explain` then turns its refusal into a cause and a cure.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

from minibuild.errors import SandboxError
from minibuild.sandbox import caps, userns
from minibuild.sandbox.userns import IdRange
from minibuild.values import dataclass

_MIN_KERNEL: Final = (5, 12)  # mount_setattr(2); overlay mounts in a user namespace came with 5.11


class Mode(StrEnum):
    """Kinds of isolation, best first; the value is what users are shown."""

    ROOT = "root"
    SUBUID = "user namespace (subuid)"


@dataclass(frozen=True, slots=True)
class Machine:
    """What `look` found: the caller's ids and rights, subordinate ids, kernel version and settings."""

    uid: int
    gid: int
    admin: bool
    kernel: tuple[int, int]
    subuid: tuple[IdRange, ...]
    subgid: tuple[IdRange, ...]
    settings: tuple[tuple[str, str], ...]

    def setting(self, name: str) -> str:
        """The value of a kernel setting of `_SETTINGS`, "" where the kernel has no such setting."""
        return dict(self.settings).get(name, "")


_SETTINGS: Final = (
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces",
)


def look() -> Machine:
    """Read the facts; never fails."""
    uid = os.geteuid()
    settings = []
    for name in _SETTINGS:
        try:
            settings.append((name, Path("/proc/sys", name).read_text().strip()))
        except OSError:
            continue
    return Machine(
        uid=uid,
        gid=os.getegid(),
        admin=bool(caps.effective() >> caps.SYS_ADMIN & 1),
        kernel=_kernel(os.uname().release),
        subuid=userns.read_ranges(Path("/etc/subuid"), uid) if uid else (),
        subgid=userns.read_ranges(Path("/etc/subgid"), uid) if uid else (),
        settings=tuple(settings),
    )


def owns_all_ids() -> bool:
    """Whether this is the machine's own user namespace, the only one in which devices can be made."""
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except OSError:
        return False


def _kernel(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = "".join(char if char.isdigit() else " " for char in rest).split(" ")[0]
    return int(major), int(minor or 0)


def choose(machine: Machine, isolation: str = "auto") -> Mode:
    """The mode to run in; `isolation` is "auto", "root" or "userns". Raises `SandboxError`."""
    if machine.kernel < _MIN_KERNEL:
        raise SandboxError(
            f"Linux {machine.kernel[0]}.{machine.kernel[1]} is too old to run build steps",
            cure=f"Linux {_MIN_KERNEL[0]}.{_MIN_KERNEL[1]} or newer is needed.",
        )
    if isolation not in ("auto", "root", "userns"):
        raise SandboxError(f"no isolation is called {isolation!r}", cure="Say auto, root or userns.")
    if machine.uid == 0:
        return _choose_root(machine, isolation)
    if isolation == "root":
        raise SandboxError(
            "isolation root was asked for by an ordinary user", cure="Leave isolation at auto."
        )
    _check_settings(machine)
    userns.require_ranges(machine.uid, machine.subuid, machine.subgid)
    userns.require_tools()
    return Mode.SUBUID


def _choose_root(machine: Machine, isolation: str) -> Mode:
    if isolation == "userns":
        raise SandboxError("isolation userns is for ordinary users", cure="Leave isolation at auto.")
    if not machine.admin:
        raise SandboxError(
            "root without CAP_SYS_ADMIN cannot mount, so it cannot run build steps",
            cure="Run as an ordinary user with subordinate ids, or in a container started with"
            " --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined.",
        )
    return Mode.ROOT


def _check_settings(machine: Machine) -> None:
    if machine.setting("kernel/unprivileged_userns_clone") == "0":
        raise SandboxError(
            "this machine denies user namespaces to ordinary users (kernel.unprivileged_userns_clone = 0)",
            cure="As root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if machine.setting("user/max_user_namespaces") == "0":
        raise SandboxError(
            "this machine allows no user namespaces (user.max_user_namespaces = 0)",
            cure="As root: sysctl -w user.max_user_namespaces=15000",
        )


def explain(machine: Machine, mode: Mode, operation: str) -> SandboxError:
    """The error for a holder that could not set itself up: `operation` is what the kernel refused."""
    if mode is Mode.ROOT:
        return SandboxError(
            f"the sandbox could not start: {operation}",
            cure="In a container, start it with --privileged, or --cap-add SYS_ADMIN with seccomp and"
            " AppArmor unconfined.",
        )
    if machine.setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return SandboxError(
            f"AppArmor denies user namespaces to ordinary users: {operation}",
            cure="As root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile"
            " that allows userns for this Python.",
        )
    return SandboxError(
        f"this machine denies user namespaces: {operation}",
        cure="In a container, start it with --security-opt seccomp=unconfined (and apparmor=unconfined,"
        " systempaths=unconfined).",
    )
