"""What this machine lets us do, and which modes of isolation follow from it, best first.

The ladder is built from facts that are cheap to read; whether the kernel really agrees shows when the
holder starts. `explain` turns its refusal into a cause and a cure, and the next rung is tried.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

from minibuild.errors import SandboxError, UsageError
from minibuild.sandbox import capabilities, userns
from minibuild.sandbox.userns import IdRange
from minibuild.values import dataclass

_MIN_KERNEL: Final = (5, 12)  # mount_setattr(2); overlay mounts in a user namespace came with 5.11


class Mode(StrEnum):
    """Kinds of isolation, best first; the value is what users are shown."""

    ROOT = "root"
    ALL_IDS = "user namespace (all ids)"  # of a root that may not mount
    SUBUID = "user namespace (subuid)"
    SINGLE = "user namespace (single id)"
    CHROOT = "chroot"


# What can be asked for (`spec.ISOLATIONS`); "none" refuses every RUN.
ISOLATIONS: Final[dict[str, tuple[Mode, ...]]] = {
    "auto": tuple(Mode),
    "namespace": (Mode.ROOT, Mode.ALL_IDS, Mode.SUBUID),
    "single-id": (Mode.SINGLE,),
    "chroot": (Mode.CHROOT,),
    "none": (),
    "root": (Mode.ROOT,),
    "userns": (Mode.ALL_IDS, Mode.SUBUID),
    "oci": (Mode.ROOT, Mode.ALL_IDS, Mode.SUBUID),  # with a runtime
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What `look` found: the caller's ids and rights, subordinate ids, kernel version and settings."""

    uid: int
    gid: int
    capabilities: int
    kernel: tuple[int, int]
    subuid: tuple[IdRange, ...]
    subgid: tuple[IdRange, ...]
    settings: tuple[tuple[str, str], ...]

    def may(self, capability: int) -> bool:
        """Whether the caller holds a capability, by its number."""
        return bool(self.capabilities >> capability & 1)

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
        capabilities=capabilities.effective(),
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


def ladder(machine: Machine, isolation: str = "auto") -> tuple[list[Mode], dict[Mode, SandboxError]]:
    """The modes to try, best first, and why the others are out of the question.

    `isolation` is a name of `ISOLATIONS`. Raises `UsageError` for any other.
    """
    if isolation not in ISOLATIONS:
        raise UsageError(f"no isolation is called {isolation!r}", cure=f"Say {', '.join(ISOLATIONS)}.")
    modes: list[Mode] = []
    refused: dict[Mode, SandboxError] = {}
    for mode in ISOLATIONS[isolation]:
        error = obstacle(machine, mode)
        if error is None:
            modes.append(mode)
        else:
            refused[mode] = error
    return modes, refused


def obstacle(machine: Machine, mode: Mode) -> SandboxError | None:
    """What is known to rule `mode` out, with its cure; None where it is worth a try."""
    try:
        _CHECKS[mode](machine)
    except SandboxError as error:
        return error
    return None


def _check_kernel(machine: Machine) -> None:
    if machine.kernel < _MIN_KERNEL:
        raise SandboxError(
            f"Linux {machine.kernel[0]}.{machine.kernel[1]} is too old to run build steps in namespaces",
            cure=f"Linux {_MIN_KERNEL[0]}.{_MIN_KERNEL[1]} or newer is needed.",
        )


def _check_root(machine: Machine) -> None:
    _check_kernel(machine)
    if machine.uid != 0:
        raise SandboxError("isolation root is not for an ordinary user", cure="Leave isolation at auto.")
    if not machine.may(capabilities.SYS_ADMIN):
        raise SandboxError(
            "root without CAP_SYS_ADMIN cannot mount",
            cure="In a container, start it with --cap-add SYS_ADMIN --security-opt seccomp=unconfined"
            " --security-opt apparmor=unconfined.",
        )


def _check_all_ids(machine: Machine) -> None:
    _check_kernel(machine)
    if machine.uid != 0 or not (machine.may(capabilities.SETUID) and machine.may(capabilities.SETFCAP)):
        raise SandboxError(
            "mapping all ids needs root with CAP_SETUID, CAP_SETGID and CAP_SETFCAP",
            cure="Leave isolation at auto.",
        )
    _check_settings(machine)


def _check_subuid(machine: Machine) -> None:
    _check_kernel(machine)
    if machine.uid == 0:
        raise SandboxError("subordinate ids are for ordinary users", cure="Leave isolation at auto.")
    _check_settings(machine)
    userns.require_ranges(machine.uid, machine.subuid, machine.subgid)
    userns.require_tools()


def _check_single(machine: Machine) -> None:
    _check_kernel(machine)
    _check_settings(machine)
    if not supervision():
        raise SandboxError(
            "this kernel cannot hand system calls to another process (seccomp user notification)",
            cure="Use a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64.",
        )


def supervision() -> bool:
    """Whether the kernel hands system calls to another process, and `notify` knows their numbers."""
    if os.uname().machine not in ("x86_64", "aarch64"):
        return False
    try:
        return "user_notif" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return True  # it will show


def _check_chroot(machine: Machine) -> None:
    if machine.uid != 0:
        raise SandboxError(
            "an ordinary user cannot change the root folder",
            cure="Run as root; in a container, without --user.",
        )
    missing = [name for number, name in _CHROOT_NEEDS if not machine.may(number)]
    if missing:
        raise SandboxError(
            f"isolation chroot needs {' and '.join(missing)}",
            cure="In a container, keep the default capabilities (no --cap-drop).",
        )


_CHROOT_NEEDS: Final = (
    (capabilities.SYS_CHROOT, "CAP_SYS_CHROOT"),
    (capabilities.CHOWN, "CAP_CHOWN"),
    (capabilities.DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (capabilities.FOWNER, "CAP_FOWNER"),
    (capabilities.SETUID, "CAP_SETUID"),
    (capabilities.SETGID, "CAP_SETGID"),
)
_CHECKS: Final = {
    Mode.ROOT: _check_root,
    Mode.ALL_IDS: _check_all_ids,
    Mode.SUBUID: _check_subuid,
    Mode.SINGLE: _check_single,
    Mode.CHROOT: _check_chroot,
}


def _check_settings(machine: Machine) -> None:
    if machine.setting("kernel/unprivileged_userns_clone") == "0" and not machine.may(capabilities.SYS_ADMIN):
        raise SandboxError(
            "this machine denies user namespaces to ordinary users (kernel.unprivileged_userns_clone = 0)",
            cure="As root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if machine.setting("user/max_user_namespaces") == "0":
        raise SandboxError(
            "this machine allows no user namespaces (user.max_user_namespaces = 0)",
            cure="As root: sysctl -w user.max_user_namespaces=15000",
        )


def nothing_works(refused: dict[Mode, SandboxError], isolation: str = "auto") -> SandboxError:
    """The error for a RUN where no mode is left: what each is missing, and the cure for the best.

    What the caller's own kind of user can never have is left out.
    """
    if not ISOLATIONS[isolation]:
        return SandboxError(
            "RUN needs isolation, and isolation none was asked for", cure="Leave isolation at auto."
        )
    if len(refused) == 1:
        return next(iter(refused.values()))
    told = {mode: error for mode, error in refused.items() if not hopeless(mode)}
    reasons = "; ".join(dict.fromkeys(error.message for error in told.values()))
    cures = dict.fromkeys(error.cure for error in told.values() if error.cure)
    if isolation != "auto":  # another may well work
        message = f"isolation {isolation} does not work on this machine: {reasons}"
        more = "Or leave isolation at auto: minibuild doctor tells what works."
    else:
        message = f"RUN cannot be executed on this machine: {reasons}"
        more = "minibuild doctor tells more. What has no RUN builds as it is."
    return SandboxError(message, cure="\n".join((*cures, more)))


def hopeless(mode: Mode) -> bool:
    """Whether a mode is for the other kind of user: root or not."""
    for_root = (Mode.ROOT, Mode.ALL_IDS, Mode.CHROOT)
    return (mode in for_root) != (os.geteuid() == 0) and mode is not Mode.SINGLE


def explain(machine: Machine, mode: Mode, operation: str) -> SandboxError:
    """The error for a holder that could not set itself up: `operation` is what the kernel refused."""
    if mode in (Mode.ROOT, Mode.CHROOT):
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
