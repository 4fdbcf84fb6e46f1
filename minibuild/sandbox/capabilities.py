"""Capabilities by number (capabilities(7)), and which of them there are; `caps` takes them from a process."""

from __future__ import annotations

_NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, SETPCAP = 0, 1, 3, 6, 7, 8
SYS_CHROOT, SYS_ADMIN, MKNOD, SETFCAP = 18, 21, 27, 31

# The names a container engine grants by default, as one bit set.
DEFAULT = sum(1 << number for number in _NUMBERS.values())


def last_capability() -> int:
    """The highest capability number this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def effective() -> int:
    """The calling process's effective capabilities as a bit set."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0
