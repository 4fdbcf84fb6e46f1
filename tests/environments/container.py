"""A container as Docker starts it by default, as runc's configuration."""

from __future__ import annotations

import os
from pathlib import Path

from minibuild.sandbox import caps, seccomp_table

_DEVICES: dict[str, object] = {
    "devices": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        *({"allow": True, "type": "c", "major": 1, "minor": n, "access": "rwm"} for n in (3, 5, 7, 8, 9)),
        {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    ]
}


def _seccomp() -> dict[str, object]:
    """Docker's profile for a container without CAP_SYS_ADMIN."""
    allowed = [word.partition("=")[0] for word in seccomp_table.ALLOWED[os.uname().machine].split()]
    allowed = [name for name in allowed if name not in ("clone", "clone3")]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": allowed, "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket", "personality"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }


def runc_config(work: Path, store: Path, arguments: tuple[str, ...]) -> dict[str, object]:
    """The builder in such a container, less its network: the host's is used."""
    names = [f"CAP_{name}" for name in caps._NUMBERS]
    safe = ["nosuid", "noexec", "nodev"]

    def mount(kind: str, target: str, *options: str) -> dict[str, object]:
        return {"destination": target, "type": kind, "source": kind, "options": [*options]}

    def bind(path: str, *options: str) -> dict[str, object]:
        return {"destination": path, "type": "bind", "source": path, "options": ["rbind", *options]}

    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "builder",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["minibuild", *arguments],
            "cwd": "/",
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                f"MINIBUILD_ROOT={store}",
                "SOURCE_DATE_EPOCH=1000000000",
            ],
            "capabilities": {kind: names for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": False,
        },
        "mounts": [
            mount("proc", "/proc", *safe),
            mount("tmpfs", "/dev", "nosuid", "mode=755"),
            {**mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666")},
            mount("sysfs", "/sys", *safe, "ro"),
            mount("tmpfs", "/tmp", "nosuid", "nodev"),
            bind("/etc/resolv.conf", "ro"),
            bind("/etc/hosts", "ro"),
            bind(str(work)),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": _DEVICES,
            "seccomp": _seccomp(),
        },
    }
