"""Docker's default seccomp profile as a BPF program, assembled once before any fork.

A refused call fails with EPERM, one newer than the profile with ENOSYS (so that the C library falls
back as on an older kernel), clone3 with ENOSYS (its flags are out of a filter's reach). x32 is
answered as by a kernel built without it. Format: linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from minibuild.sandbox import seccomp_table as table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ALLOW = 0x7FFF0000
_EPERM = 0x00050001
_ENOSYS = 0x00050026
_KILL = 0x80000000

_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06

# Offsets in struct seccomp_data; the low word of the first argument on a little-endian machine.
_NUMBER = 0
_ARCHITECTURE = 4
_ARGUMENT = 16

_X32 = 0x40000000
NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes
REFUSED_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# code, jump if true, jump if false, operand
_Instruction = tuple[int, int, int, int]

_NO_ANSWERS: Mapping[str, Mapping[int, int]] = {}


def program(
    machine: str, answers: Mapping[str, Mapping[int, int]] = _NO_ANSWERS, *, confined: bool = True
) -> bytes:
    """The filter for a machine (as uname names it); b"" for one whose numbers are not known.

    `answers` are actions by architecture and number of a call that come before the profile's; without
    `confined` there is no profile, and all other calls pass.
    """
    if machine not in table.COMPATIBLE:
        return b""
    code: list[_Instruction] = []
    for architecture in (machine, table.COMPATIBLE[machine]):
        body = _body(architecture, answers.get(architecture, {}), confined)
        code += [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, table.AUDIT[architecture])]
        # A conditional jump reaches 255 instructions; an unconditional one (BPF_JA) any number.
        code += [(0x05, 0, 0, len(body)), *body]
    code.append((_RETURN, 0, 0, _KILL))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def build() -> int:
    """The address of a struct sock_fprog for this machine, kept for the life of the process; 0 for none."""
    return keep(program(os.uname().machine))


def keep(data: bytes) -> int:
    """The address of a struct sock_fprog for a program, kept for the life of the process; 0 for b""."""
    if not data:
        return 0
    code = ctypes.create_string_buffer(data, len(data))
    packed = struct.pack("@HP", len(data) // 8, ctypes.addressof(code))
    header = ctypes.create_string_buffer(packed, len(packed))
    _kept.extend((code, header))
    return ctypes.addressof(header)


_kept: list[ctypes.Array[ctypes.c_char]] = []


def _body(architecture: str, answers: Mapping[int, int], confined: bool) -> list[_Instruction]:
    socket, personality, clone, clone3 = table.SPECIAL[architecture]
    code: list[_Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    if architecture == "x86_64":
        code += [(_JUMP_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ENOSYS)]
    for number, action in answers.items():
        code += _when(number, [(_RETURN, 0, 0, action)])
    if not confined:
        return [*code, (_RETURN, 0, 0, _ALLOW)]
    code += _when(socket, _one_of(REFUSED_FAMILIES, _EPERM, _ALLOW))
    code += _when(personality, _one_of(PERSONALITIES, _ALLOW, _EPERM))
    code += _when(
        clone,
        [
            (_LOAD, 0, 0, _ARGUMENT),
            (_JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ],
    )
    code += _when(clone3, [(_RETURN, 0, 0, _ENOSYS)])
    numbers = [int(word.partition("=")[2]) for word in table.ALLOWED[architecture].split()]
    return code + _search(*_boundaries(numbers))


def _when(number: int, code: list[_Instruction]) -> list[_Instruction]:
    """`code`, which returns, if the loaded call number is `number`."""
    return [(_JUMP_EQUAL, 0, len(code), number), *code]


def _one_of(values: tuple[int, ...], found: int, otherwise: int) -> list[_Instruction]:
    """Return `found` if the first argument is one of `values`, else `otherwise`."""
    last = len(values)
    tests = [(_JUMP_EQUAL, last - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, _ARGUMENT), *tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, found)]


def _boundaries(numbers: list[int]) -> tuple[list[int], list[int]]:
    """Where the answer changes, and the answers between: one more than boundaries."""
    allowed = set(numbers)
    starts = {n for n in allowed if n - 1 not in allowed}
    ends = {n + 1 for n in allowed if n + 1 not in allowed}
    edges = sorted(starts | ends | {table.NEWEST + 1})
    answers = [_EPERM]
    for edge in edges:
        answers.append(_ALLOW if edge in allowed else _ENOSYS if edge > table.NEWEST else _EPERM)
    return edges, answers


def _search(edges: list[int], answers: list[int]) -> list[_Instruction]:
    """A binary search for the loaded number among `edges`."""
    if not edges:
        return [(_RETURN, 0, 0, answers[0])]
    middle = len(edges) // 2
    left = _search(edges[:middle], answers[: middle + 1])
    right = _search(edges[middle + 1 :], answers[middle + 1 :])
    return [(_JUMP_AT_LEAST, len(left), 0, edges[middle]), *left, *right]
