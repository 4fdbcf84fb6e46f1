"""Capabilities of a sandboxed process: Docker's default fourteen (capabilities(7))."""

from __future__ import annotations

import ctypes

from minibuild.sandbox import syscalls

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

_V3 = 0x20080522
_header = (ctypes.c_uint32 * 2)(_V3, 0)
# struct __user_cap_data_struct twice: effective, permitted, inheritable for the low and the high word.
_data = (ctypes.c_uint32 * 6)(DEFAULT, DEFAULT, 0, 0, 0, 0)
_HEADER = ctypes.addressof(_header)
_DATA = ctypes.addressof(_data)


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


def limit_bounding(last: int) -> None:
    """Drop all but the default set from the bounding set, for good."""
    for number in range(last + 1):
        if not DEFAULT >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)


def keep_all(capabilities: int) -> None:
    """Hold `capabilities` in every set, ambient too, so that an ordinary user has them as well."""
    low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
    _data[:] = [low, low, low, high, high, high]
    syscalls.capset(_HEADER, _DATA)
    for number in range(capabilities.bit_length()):
        if capabilities >> number & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)


def limit_process(kept: int = DEFAULT) -> None:
    """Permitted and effective: `kept`, a part of the default set; inheritable and ambient: none."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    _data[:] = [kept, kept, 0, 0, 0, 0]
    syscalls.capset(_HEADER, _DATA)
