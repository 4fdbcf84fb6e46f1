"""Giving files away where only one id is mapped: chown and its kin answered by a supervisor.

A filter in each run hands these calls to the supervisor (seccomp_unotify(2)), which stands outside the
run's process namespace. It does the call with our own ids, so that all its other effects come about
(copy-up, cleared setuid bits and capabilities, times), and records the owner that was meant as
`layers.owners` has it. Calls that change a process's own ids are answered by the filter with success,
and change nothing. Formats: linux/seccomp.h; numbers: the kernel's unistd headers.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import marshal
import os
import select
import stat
import struct

from minibuild.layers import owners
from minibuild.sandbox import callerfiles, paths, seccomp, seccomp_table, syscalls

_NOTIFY = 0x7FC00000  # SECCOMP_RET_USER_NOTIF
_SUCCEED = 0x00050000  # SECCOMP_RET_ERRNO with the number 0: the call is skipped and returns 0

_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5  # Linux 5.19
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_IS_VALID = 0x40082102
_SET_FLAGS = 0x40082104  # Linux 6.6
_SYNC_WAKE_UP = 1  # the two sides take turns: switch to the other at once

# struct seccomp_notif: id, pid, flags, and seccomp_data: number, architecture, address, six arguments
_REQUEST = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_ID = struct.Struct("=Q")

_PATH, _LINK, _FD, _AT = range(4)
# Shapes of calls by number: what names the file, where the ids begin, whether ids have 16 bits.
_SHAPES = {
    "x86_64": {92: (_PATH, False), 94: (_LINK, False), 93: (_FD, False), 260: (_AT, False)},
    "aarch64": {55: (_FD, False), 54: (_AT, False)},
}
_OLD = {
    182: (_PATH, True),
    16: (_LINK, True),
    95: (_FD, True),
    212: (_PATH, False),
    198: (_LINK, False),
    207: (_FD, False),
}
_SHAPES["i386"] = {**_OLD, 298: (_AT, False)}
_SHAPES["arm"] = {**_OLD, 325: (_AT, False)}
# setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid, setfsuid, setfsgid
_OLD_IDENTITY = (23, 46, 70, 71, 81, 138, 139, 164, 170, 203, 204, 206, 208, 210, 213, 214, 215, 216)
_IDENTITY = {
    "x86_64": (105, 106, 113, 114, 116, 117, 119, 122, 123),
    "aarch64": (143, 144, 145, 146, 147, 149, 151, 152, 159),
    "i386": _OLD_IDENTITY,
    "arm": _OLD_IDENTITY,
}
_BY_AUDIT = {seccomp_table.AUDIT[name]: shapes for name, shapes in _SHAPES.items()}

_UNCHANGED = -1


# -- in the run


class Filters:
    """The filters of runs, assembled in the holder before it forks."""

    def __init__(self) -> None:
        machine = os.uname().machine
        self._call = _SECCOMP.get(machine, -1)
        self._addresses = {
            (root, confined): seccomp.keep(
                seccomp.program(machine, _answers(pretend=root), confined=confined)
            )
            for root in (True, False)
            for confined in (True, False)
        }

    def load(self, *, root: bool, confined: bool) -> int:
        """Filter this process from now on; the descriptor that its calls are read from.

        With `root`, changes of its own ids seem to succeed.
        """
        address = self._addresses[root, confined]
        try:
            return syscalls.seccomp(
                self._call, _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, address, _LOADING
            )
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return syscalls.seccomp(self._call, _SET_MODE_FILTER, _NEW_LISTENER, address, _LOADING)


_LOADING = "load a seccomp filter with a supervisor"


def _answers(*, pretend: bool) -> dict[str, dict[int, int]]:
    answers = {name: dict.fromkeys(shapes, _NOTIFY) for name, shapes in _SHAPES.items()}
    if pretend:
        for name, numbers in _IDENTITY.items():
            answers[name].update(dict.fromkeys(numbers, _SUCCEED))
    return answers


def hand_over(intake: _socket.socket, listener: int, upper: str, ids: tuple[int, ...]) -> None:
    """Give a listener to the supervisor; `ids` are the run's user, group and further groups.

    Returns once the supervisor has it, so that what it answers with is there from the first call on.
    """
    _tell(intake, (upper, ids), (listener,))
    os.close(listener)


def write_out(intake: _socket.socket, upper: str) -> None:
    """Have the supervisor write down all it knows of an ended run."""
    _tell(intake, upper, ())


def _tell(intake: _socket.socket, message: tuple[str, tuple[int, ...]] | str, fds: tuple[int, ...]) -> None:
    """Send a message and wait until the supervisor has dealt with it, and so closed our socket."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    packed = b"".join(fd.to_bytes(4, "little") for fd in (*fds, theirs.fileno()))
    intake.sendmsg(
        [marshal.dumps(message)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], _socket.MSG_NOSIGNAL
    )
    theirs.close()
    ours.recv(1)
    ours.close()


# -- outside


class Supervisor:
    """Answers the calls of all runs, one at a time; `fds` are to be polled and `ready` told of them.

    It belongs to a single-threaded process of its own, whose root and current folder it changes for a
    moment to have the kernel resolve a path as the caller sees it.
    """

    def __init__(self, intake: _socket.socket, poll: select.poll) -> None:
        self._intake = intake
        self._poll = poll
        self._runs: dict[int, _Run] = {}
        self._files = callerfiles.CallerFiles()
        poll.register(intake.fileno(), select.POLLIN)

    def ready(self, fd: int, events: int) -> None:
        """Serve a descriptor that poll has named."""
        if fd == self._intake.fileno():
            self._take()
        elif fd in self._runs:
            if events & select.POLLIN:
                self._answer(self._runs[fd])
            elif events:
                self._poll.unregister(fd)
                self._runs.pop(fd).close()

    def _take(self) -> None:
        data, ancillary, _flags, _address = self._intake.recvmsg(
            1 << 16, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC
        )
        fds = [
            int.from_bytes(packed[at : at + 4], "little")
            for _, _, packed in ancillary
            for at in range(0, len(packed), 4)
        ]
        if len(fds) == 1:
            for run in self._runs.values():
                run.write_out(marshal.loads(data))
        elif len(fds) == 2:
            upper, ids = marshal.loads(data)
            run = _Run(fds[0], upper, ids)
            self._runs[run.listener] = run
            self._poll.register(run.listener, select.POLLIN)
        elif not data:
            self._poll.unregister(self._intake.fileno())
        for fd in fds[-1:]:
            os.close(fd)

    def _answer(self, run: _Run) -> None:
        request = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(run.listener, _RECEIVE, request, True)
        except OSError:
            return  # whoever called has been killed meanwhile
        identity, pid, _flags, number, architecture, _address, *arguments = _REQUEST.unpack(request)
        try:
            self._do(run, identity, pid, _BY_AUDIT[architecture][number], arguments)
            failure = 0
        except OSError as error:
            failure = error.errno or errno.EPERM
        except Exception:  # a request that makes no sense must not end the supervisor
            failure = errno.EPERM
        try:  # noqa: SIM105  # contextlib would be one more module to load
            fcntl.ioctl(run.listener, _SEND, _ANSWER.pack(identity, 0, -failure, 0))
        except OSError:
            pass

    def _do(self, run: _Run, identity: int, pid: int, shape: tuple[int, bool], arguments: list[int]) -> None:
        kind, short = shape
        at, follow, name, uid, gid = 0, True, 0, arguments[1], arguments[2]
        if kind == _AT:
            at, name, uid, gid = _signed(arguments[0]), arguments[1], arguments[2], arguments[3]
            flags = arguments[4]
            if flags & ~(syscalls.AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW):
                raise OSError(errno.EINVAL, "")
            follow = not flags & _AT_SYMLINK_NOFOLLOW
            empty = bool(flags & syscalls.AT_EMPTY_PATH)
        else:
            at, name, follow, empty = syscalls.AT_FDCWD, arguments[0], kind != _LINK, False
        if kind == _FD:
            fd = callerfiles.descriptor(pid, arguments[0] & 0xFFFFFFFF)
        else:
            path = callerfiles.text(pid, name)
            if not path and not empty:
                raise OSError(errno.ENOENT, "")
            fd = self._files.open(pid, at, path, follow=follow, check=lambda: run.check(identity))
        try:
            run.check(identity)
            self._give(run, fd, _id(uid, short), _id(gid, short))
        finally:
            os.close(fd)

    def _give(self, run: _Run, fd: int, uid: int, gid: int) -> None:
        info = os.fstat(fd)
        place = f"/proc/self/fd/{fd}"
        node = owners.is_node(info.st_mode)
        before = run.node_owner(info, fd) if node else owners.recorded(place) or run.default
        if run.default[0]:
            run.permit(before, uid, gid)
        ours = (_UNCHANGED if uid == _UNCHANGED else 0, _UNCHANGED if gid == _UNCHANGED else 0)
        syscalls.chown_fd(fd, *ours)
        after = (before[0] if uid == _UNCHANGED else uid, before[1] if gid == _UNCHANGED else gid)
        if after == before:
            if after == owners.ROOT and stat.S_ISREG(info.st_mode):
                run.kept.add(info.st_ino)
            return
        if node:
            run.record_node(info, fd, after)
        elif run.default != owners.ROOT and after == owners.ROOT:
            os.setxattr(place, owners.ATTRIBUTE, owners.to_value(*after))
        else:
            owners.record(place, after)


_AT_SYMLINK_NOFOLLOW = 0x100


class _Run:
    """One run: its listener, the folder that takes its changes, its user, and what was recorded of links."""

    def __init__(self, listener: int, upper: str, ids: tuple[int, ...]) -> None:
        self.listener = listener
        try:  # noqa: SIM105
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass
        self.default = (ids[0], ids[1])
        self._groups = ids[1:]
        self.upper = upper
        self._nodes: dict[owners.Node, tuple[int, int]] = {}
        self.kept: set[int] = set()  # see `owners.Reader`
        if self.default != owners.ROOT:
            owners.append(upper, (owners.user_line(*self.default),))

    def close(self) -> None:
        os.close(self.listener)
        self.write_out(self.upper)

    def write_out(self, upper: str) -> None:
        """Put what is known of the run whose changes are in `upper` where the diff will look."""
        if upper == self.upper and self.kept and os.path.isdir(upper):
            owners.append(upper, (owners.kept_line(self.kept),))
            self.kept.clear()

    def check(self, identity: int) -> None:
        """Raise unless the caller still waits: its number in /proc may be another's by now."""
        fcntl.ioctl(self.listener, _IS_VALID, _ID.pack(identity))

    def permit(self, before: tuple[int, int], uid: int, gid: int) -> None:
        """What an ordinary user may do: give their own files to a group they are in."""
        allowed = uid in (_UNCHANGED, before[0]) and (gid in (_UNCHANGED, before[1]) or gid in self._groups)
        if not allowed or before[0] != self.default[0]:
            raise OSError(errno.EPERM, "")

    def node_owner(self, info: os.stat_result, fd: int) -> tuple[int, int]:
        """The owner of a link or pipe, as far as this run has changed it."""
        node = self._node(info, fd)
        return self.default if node is None else self._nodes.get(node, self.default)

    def record_node(self, info: os.stat_result, fd: int, owner: tuple[int, int]) -> None:
        node = self._node(info, fd)
        if node is not None:
            self._nodes[node] = owner
            owners.append(self.upper, (owners.node_line(node, owner),))

    def _node(self, info: os.stat_result, fd: int) -> owners.Node | None:
        """The inode in the upper folder behind a file of the overlay; None for one that is not there."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        if not path.startswith("/"):
            return None  # a pipe or socket without a name
        upper_fd = os.open(self.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inner = paths.open_exact(upper_fd, path.lstrip("/"))
        except OSError:
            return None
        finally:
            os.close(upper_fd)
        try:
            found = os.fstat(inner)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(info.st_mode):
                return None
            return found.st_ino, owners.birth(b"", inner)
        finally:
            os.close(inner)


def _signed(value: int) -> int:
    return ctypes.c_int(value & 0xFFFFFFFF).value


def _id(value: int, short: bool) -> int:
    """A uid or gid argument; -1 for the one that means no change."""
    mask = 0xFFFF if short else 0xFFFFFFFF
    return _UNCHANGED if value & mask == mask else value & mask
