"""What an OCI runtime is told of a run: the config.json of its bundle (OCI runtime specification 1.0).

The root file system comes with all its mounts but /proc, which belongs to the process namespace that
the runtime makes. Network, IPC and control group namespaces and the host name are those that the
runtime is started in.
"""

from __future__ import annotations

import os
import resource

from minibuild.sandbox import limits, seccomp, seccomp_table, systemfs
from minibuild.sandbox.capabilities import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibuild.sandbox.protocol import RunRequest
    from minibuild.sandbox.users import User

# By number (linux/capability.h).
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_RLIMITS = {number: name.upper() for name, number in limits.ULIMITS.items()}
_UNLIMITED = (1 << 64) - 1
_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
_EPERM, _ENOSYS = 1, 38


def config(
    request: RunRequest,
    *,
    root: str,
    argv: tuple[str, ...],
    env: dict[str, str],
    cwd: str,
    user: User,
    capabilities: int,
    terminal: bool,
) -> dict[str, Any]:
    """The document; `capabilities` is what there is for an insecure process."""
    insecure = request["insecure"]
    # A runtime written in Go raises its own limit of open files.
    ulimits = {resource.RLIMIT_NOFILE: resource.getrlimit(resource.RLIMIT_NOFILE)}
    ulimits.update({number: (soft, hard) for number, soft, hard in request["ulimits"]})
    linux: dict[str, Any] = {"namespaces": [{"type": "pid"}, {"type": "mount"}]}
    if not insecure:
        linux["maskedPaths"] = [f"/proc/{name}" for name in systemfs.MASKED_PROC]
        linux["readonlyPaths"] = [f"/proc/{name}" for name in systemfs.READONLY_PROC]
        profile = filters(os.uname().machine)
        if profile:
            linux["seccomp"] = profile
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups), "umask": 0o022},
            "args": list(argv),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": cwd,
            "capabilities": _capabilities(capabilities if insecure else DEFAULT, ambient=insecure),
            "rlimits": [_rlimit(number, *values) for number, values in ulimits.items()],
            "noNewPrivileges": False,
        },
        "root": {"path": root},
        "mounts": [
            {
                "destination": "/proc",
                "type": "proc",
                "source": "proc",
                "options": ["nosuid", "noexec", "nodev"],
            },
            # It is there already. Named, so that the runtime makes no devices of its own in it.
            {
                "destination": "/dev",
                "type": "bind",
                "source": f"{root}/dev",
                "options": ["rbind", "nosuid", *(() if insecure else ("nodev",))],
            },
        ],
        "linux": linux,
    }


def _capabilities(held: int, *, ambient: bool) -> dict[str, list[str]]:
    names = [f"CAP_{name}" for number, name in enumerate(_CAPABILITIES.split()) if held >> number & 1]
    passed_on = names if ambient else []
    return {
        "bounding": names,
        "effective": names,
        "permitted": names,
        "inheritable": passed_on,
        "ambient": passed_on,
    }


def _rlimit(number: int, soft: int, hard: int) -> dict[str, Any]:
    values = {"soft": soft, "hard": hard}
    return {
        "type": f"RLIMIT_{_RLIMITS[number]}",
        **{name: _UNLIMITED if value < 0 else value for name, value in values.items()},
    }


def filters(machine: str) -> dict[str, Any]:
    """The profile of `seccomp` in the specification's form; empty for a machine it does not know."""
    if machine not in _ARCHITECTURES:
        return {}
    allowed = {
        word.partition("=")[0]
        for architecture in (machine, seccomp_table.COMPATIBLE[machine])
        for word in seccomp_table.ALLOWED[architecture].split()
    }
    below, above = seccomp.REFUSED_FAMILIES
    families = [(below, "LT"), *((family, "EQ") for family in range(below + 1, above)), (above, "GT")]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": list(_ARCHITECTURES[machine]),
        "syscalls": [
            {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"},
            *(_allow("socket", value, operator) for value, operator in families),
            *(_allow("personality", value, "EQ") for value in seccomp.PERSONALITIES),
            _allow("clone", seccomp.NEW_NAMESPACES, "MASKED_EQ"),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        ],
    }


def _allow(name: str, value: int, operator: str) -> dict[str, Any]:
    """Allow a call whose first argument compares so (with MASKED_EQ: has none of these bits)."""
    argument = {"index": 0, "value": value, "valueTwo": 0, "op": f"SCMP_CMP_{operator}"}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
