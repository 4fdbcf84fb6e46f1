"""Leaving a sandboxed process the capabilities that it may have: Docker's default fourteen."""

from __future__ import annotations

import ctypes

from minibuild.sandbox import syscalls
from minibuild.sandbox.capabilities import DEFAULT

_V3 = 0x20080522
_header = (ctypes.c_uint32 * 2)(_V3, 0)
# struct __user_cap_data_struct twice: effective, permitted, inheritable for the low and the high word.
_data = (ctypes.c_uint32 * 6)(DEFAULT, DEFAULT, 0, 0, 0, 0)
_HEADER = ctypes.addressof(_header)
_DATA = ctypes.addressof(_data)


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
