"""The Linux calls that Python's `os` lacks, typed; each raises `OSError` naming the operation.

Only modules that load in about a millisecond are imported here and in everything the holder
imports: the holder's start is paid by every build that runs a process (`typing`, `enum`,
`socket`, `pathlib` and `dataclasses` would double it). Constants: linux/mount.h, linux/openat2.h,
linux/sched.h, linux/prctl.h, linux/close_range.h, linux/sockios.h. The system call numbers are those of
every architecture since Linux 5.1 (the "common" part of the tables).
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MNT_DETACH = 2

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_STRICTATIME = 0x20
ATTR_SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_CLOSE_RANGE = 436
_OPENAT2 = 437
_MOUNT_SETATTR = 442
_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)

_IFF_UP = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914

_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

_libc = ctypes.CDLL(None, use_errno=True)
_long = ctypes.c_long
_int = ctypes.c_int
_ptr = ctypes.c_void_p
_str = ctypes.c_char_p


def _call(*arguments: type[ctypes._SimpleCData[Any]]) -> Callable[..., int]:
    """syscall(2) for a call with these arguments; texts are handed over as they are, not copied."""
    function = _libc["syscall"]
    function.restype = _long
    function.argtypes = [_long, *arguments]
    return function


_syscall = _call(_long, _long, _long, _long, _long)
_openat2 = _call(_int, _str, _ptr, _long)
_fsopen = _call(_str, _int)
_fsconfig = _call(_int, _int, _str, _str, _int)
_open_tree = _call(_int, _str, _int)
_move_mount = _call(_int, _str, _int, _str, _int)
_mount_setattr = _call(_int, _str, _int, _ptr, _long)
_mount = _libc.mount
_mount.argtypes = [_str, _str, _str, ctypes.c_ulong, _str]
_prctl = _libc.prctl
_prctl.argtypes = [_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_signal = _libc.signal
_signal.restype = _ptr
_signal.argtypes = [_int, _ptr]

# Buffers are made once, before any fork, and reused: every caller is single-threaded.
_how = (ctypes.c_uint64 * 3)()
_attr = (ctypes.c_uint64 * 4)()
_HOW = ctypes.addressof(_how)
_ATTR = ctypes.addressof(_attr)
_sigset = ctypes.create_string_buffer(128)


def check(result: int, operation: str) -> int:
    """`result` if it is not negative, else the current errno as an error that names `operation`."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{operation}: {os.strerror(number)}")
    return result


def unshare(flags: int, operation: str) -> None:
    """unshare(2)."""
    check(_libc.unshare(flags), operation)


def setns(fd: int, flags: int, operation: str) -> None:
    """setns(2)."""
    check(_libc.setns(fd, flags), operation)


def openat2(dir_fd: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): a close-on-exec descriptor of `path` under `dir_fd`, resolved as `resolve` says."""
    name = os.fsencode(path)
    _how[0] = flags | os.O_CLOEXEC
    _how[1] = mode
    _how[2] = resolve
    while True:
        fd = _openat2(_OPENAT2, dir_fd, name, _HOW, 24)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != 11:  # EAGAIN: a rename raced with "..", the kernel asks to try again
            raise OSError(number, os.strerror(number), path)


def fsopen(fstype: str) -> int:
    """fsopen(2): a context to configure a file system of `fstype`."""
    return check(_fsopen(_FSOPEN, fstype.encode(), 1), f"open file system {fstype}")


def fsconfig_string(context: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING."""
    check(
        _fsconfig(_FSCONFIG, context, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0),
        f"set file system option {key}",
    )


def fsconfig_flag(context: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    check(
        _fsconfig(_FSCONFIG, context, _FSCONFIG_SET_FLAG, key.encode(), None, 0),
        f"set file system option {key}",
    )


def fsmount(context: int, attributes: int, operation: str) -> int:
    """Create the configured file system and return it as a detached mount (fsmount(2))."""
    check(_fsconfig(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), operation)
    return check(_syscall(_FSMOUNT, context, 1, attributes, 0, 0), operation)


def new_mount(fstype: str, options: tuple[tuple[str, str], ...], attributes: int, operation: str) -> int:
    """A detached mount of a new file system; an option with an empty value is a flag."""
    context = fsopen(fstype)
    try:
        fsconfig_string(context, "source", fstype)
        for key, value in options:
            if value:
                fsconfig_string(context, key, value)
            else:
                fsconfig_flag(context, key)
        return fsmount(context, attributes, operation)
    finally:
        os.close(context)


def open_tree(dir_fd: int, path: str, operation: str, *, recursive: bool = False) -> int:
    """open_tree(2) with OPEN_TREE_CLONE: a detached bind mount of `path` ("" is `dir_fd` itself)."""
    flags = 1 | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return check(_open_tree(_OPEN_TREE, dir_fd, os.fsencode(path), flags), operation)


def move_mount(mount_fd: int, target_fd: int, operation: str) -> None:
    """Attach a detached mount on the file or folder that `target_fd` is open on (move_mount(2))."""
    # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    check(_move_mount(_MOVE_MOUNT, mount_fd, b"", target_fd, b"", 0x44), operation)


def mount_setattr(mount_fd: int, attributes: int, operation: str, *, recursive: bool = False) -> None:
    """Set attributes on a mount (mount_setattr(2))."""
    _attr[0] = attributes
    _attr[1] = _attr[2] = _attr[3] = 0
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(_mount_setattr(_MOUNT_SETATTR, mount_fd, b"", flags, _ATTR, 32), operation)


def mount(source: str, target: str, fstype: str, flags: int, data: str, operation: str) -> None:
    """mount(2); empty strings are passed as null."""
    check(
        _mount(
            os.fsencode(source) or None,
            os.fsencode(target),
            os.fsencode(fstype) or None,
            flags,
            os.fsencode(data) or None,
        ),
        operation,
    )


def umount(target: str, operation: str) -> None:
    """Detach the mount at `target` (umount2(2), MNT_DETACH)."""
    check(_libc.umount2(os.fsencode(target), MNT_DETACH), operation)


def pivot_here(operation: str) -> None:
    """Make the current folder, a mount point, the root of the mount namespace; the old root is gone.

    Both arguments "." stacks the old root on the new one, so no folder for it is needed (pivot_root(2)).
    """
    check(_libc.pivot_root(b".", b"."), operation)
    check(_libc.umount2(b".", MNT_DETACH), operation)


def rename_exclusive(source: str, target: str) -> None:
    """Rename unless `target` exists (renameat2(2), RENAME_NOREPLACE)."""
    result = _libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), 1)
    check(result, f"rename to {target}")


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2)."""
    return check(_prctl(option, argument, second, 0, 0), f"prctl({option})")


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec (close_range(2))."""
    check(_syscall(_CLOSE_RANGE, first, 0xFFFFFFFF, 4, 0, 0), "close descriptors")


def new_session_keyring() -> None:
    """Leave the caller's kernel keys behind (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING); best effort."""
    if _KEYCTL is not None:
        _syscall(_KEYCTL, 1, 0, 0, 0, 0)


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    text = os.fsencode(name)
    check(_libc.sethostname(text, ctypes.c_size_t(len(text))), f"set host name {name}")


def take_terminal(fd: int) -> None:
    """Make `fd` the controlling terminal if it is one that no session holds; best effort."""
    _libc.ioctl(fd, ctypes.c_ulong(0x540E), ctypes.c_ulong(0))  # TIOCSCTTY


def default_signal(number: int) -> None:
    """Give one signal its default action."""
    _signal(number, None)


def default_signals() -> None:
    """Every signal at its default action and none blocked, as a new process expects."""
    for number in range(1, 65):
        _signal(number, None)
    _libc.sigprocmask(2, _sigset, None)


def ignore_signal(number: int) -> None:
    """Ignore a signal."""
    _signal(number, 1)


def seccomp(number: int, operation: int, flags: int, program_address: int, what: str) -> int:
    """seccomp(2), whose number differs between architectures."""
    return check(_syscall(number, operation, flags, program_address, 0, 0), what)


def chown_fd(fd: int, uid: int, gid: int) -> None:
    """fchownat(2) on the file that an O_PATH descriptor is open on, even a link; -1 leaves an id."""
    check(
        _libc.fchownat(
            fd, b"", ctypes.c_uint(uid & 0xFFFFFFFF), ctypes.c_uint(gid & 0xFFFFFFFF), AT_EMPTY_PATH
        ),
        "change an owner",
    )


def load_seccomp(program_address: int) -> None:
    """Install a seccomp filter (a struct sock_fprog) on this process."""
    check(_prctl(PR_SET_SECCOMP, 2, program_address, 0, 0), "load the seccomp filter")


def capset(header_address: int, data_address: int) -> None:
    """capset(2) with prebuilt structures."""
    check(_libc.capset(_ptr(header_address), _ptr(data_address)), "set capabilities")


def raise_loopback() -> None:
    """Bring up lo, the one interface of a new network namespace."""
    handle = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    name = b"lo".ljust(16, b"\0")
    answer = fcntl.ioctl(handle.fileno(), _SIOCGIFFLAGS, name + bytes(24))
    flags = int.from_bytes(answer[16:18], "little") | _IFF_UP
    fcntl.ioctl(handle.fileno(), _SIOCSIFFLAGS, name + flags.to_bytes(2, "little") + bytes(22))
    handle.close()
