"""Run a program with less than this machine gives: ``python confine.py [OPTION]... -- PROGRAM ARG...``

--user NAME          become that user (needs root)
--no-userns          a user namespace in which no further one can be made (user.max_user_namespaces = 0)
--no-new-privs       set-user-ID programs give nothing
--no-caps            no capability in any set
--caps A,B           no other capabilities than these numbers
--read-only DIR      everything read-only but DIR
--mask-proc          parts of /proc covered, as a container engine does it
--docker             Docker's default capabilities and seccomp profile (needs root)
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUSER = 0x20000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, flags: int, fstype: str | None = None) -> None:
    kind = fstype.encode() if fstype else None
    _check(_libc.mount(source.encode(), target.encode(), kind, flags, None), f"mount {target}")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read_only(keep: str) -> None:
    _check(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    _mount(keep, keep, _MS_BIND | _MS_REC)
    with open("/proc/self/mounts") as file:
        places = [line.split()[1].encode().decode("unicode_escape") for line in file]
    for place in places:
        if place != keep and not place.startswith(("/proc", "/sys", "/dev", keep + "/")):
            try:
                _mount("none", place, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
            except OSError as error:
                print(f"confine: {error.strerror}", file=sys.stderr)


def _mask_proc() -> None:
    _check(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    for name in ("/proc/acpi", "/proc/scsi", "/proc/bus"):
        if os.path.isdir(name):
            _mount("tmpfs", name, _MS_RDONLY, "tmpfs")
    for name in ("/proc/kcore", "/proc/keys", "/proc/timer_list"):
        if os.path.exists(name):
            _mount("/dev/null", name, _MS_BIND)
    _mount("/proc/sys", "/proc/sys", _MS_BIND)
    _mount("none", "/proc/sys", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _no_userns() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEWUSER), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _write("/proc/sys/user/max_user_namespaces", "0")


def _keep_caps(numbers: list[int]) -> None:
    kept = sum(1 << number for number in numbers)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for number in range(last + 1):
        if not kept >> number & 1:
            _libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP; without the right to, exec drops them
    _libc.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def _docker() -> None:
    """The profile first: loading it takes a capability that is then given up."""
    from minibuild.sandbox import capabilities, seccomp

    _check(_libc.prctl(22, 2, ctypes.c_void_p(seccomp.build()), 0, 0), "seccomp")
    _keep_caps([number for number in range(64) if capabilities.DEFAULT >> number & 1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--no-userns", action="store_true")
    parser.add_argument("--no-new-privs", action="store_true")
    parser.add_argument("--no-caps", action="store_true")
    parser.add_argument("--caps", default="")
    parser.add_argument("--read-only")
    parser.add_argument("--mask-proc", action="store_true")
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    if options.read_only:
        _read_only(options.read_only)
    if options.mask_proc:
        _mask_proc()
    if options.user:
        found = pwd.getpwnam(options.user)
        os.initgroups(options.user, found.pw_gid)
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
        _libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self belongs to the new user again
        os.environ["HOME"] = found.pw_dir
    if options.no_userns:
        _no_userns()
    if options.docker:
        _docker()
    if options.caps:
        _keep_caps([int(number) for number in options.caps.split(",")])
    if options.no_caps:
        _keep_caps([])
    if options.no_new_privs:
        _libc.prctl(38, 1, 0, 0, 0)
    os.execvp(options.program[0], options.program)


main()
