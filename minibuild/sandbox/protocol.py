"""What travels between the client and the holder.

Control socket (SOCK_SEQPACKET): the client sends one byte, the kind of job, and the job's number, with
the job's own socket and the descriptors the job works on; or the number of a job and a signal for it.
Job socket (SOCK_STREAM): frames, each a marshalled value behind
its length; the request goes to the forked child, which answers; the holder adds how the child ended.
Large bytes of an answer follow its frame as they are: marshal would copy them on both sides.
The holder never sees a request, so secrets pass from the client to the one process that needs them.
Marshal, not JSON: both ends are the same interpreter and requests carry bytes.
"""

from __future__ import annotations

import _socket
import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    class SnapshotRequest(TypedDict):
        kind: Literal["snapshot"]
        target: str
        lowers: tuple[str, ...]
        subpath: str
        readonly: bool

    class FolderRequest(TypedDict):
        kind: Literal["folder"]
        target: str
        source: str
        subpath: str
        readonly: bool
        mode: int
        uid: int
        gid: int

    class TmpfsRequest(TypedDict):
        kind: Literal["tmpfs"]
        target: str
        size: int

    class SecretRequest(TypedDict):
        kind: Literal["secret"]
        target: str
        content: bytes
        mode: int
        uid: int
        gid: int

    class SocketRequest(TypedDict):
        kind: Literal["socket"]
        target: str
        source: str
        mode: int
        uid: int
        gid: int

    class DeviceRequest(TypedDict):
        kind: Literal["device"]
        target: str
        source: str
        mode: int
        device: int
        uid: int | None
        gid: int | None

    MountRequest = (
        SnapshotRequest | FolderRequest | TmpfsRequest | SecretRequest | SocketRequest | DeviceRequest
    )

    class RunRequest(TypedDict):
        """What `ProcessSpec` and `Rootfs` say, in values that marshal knows."""

        lowers: tuple[str, ...]
        upper: str
        work: str
        scratch: str
        argv: tuple[str, ...]
        env: tuple[tuple[str, str], ...]
        cwd: str
        user: str
        hostname: str
        network: str
        mounts: tuple[MountRequest, ...]
        hosts: tuple[tuple[str, str], ...]
        resolv_conf: bytes | None
        shm_size: int
        ulimits: tuple[tuple[int, int, int], ...]
        cgroups: tuple[str, ...]
        groups: tuple[int, ...]
        insecure: bool
        tree: str  # where nothing is mounted: the folder to run in, and how many lowers it is made of already
        applied: int
        runtime: tuple[str, ...]  # the command of an OCI runtime that is to run it, with its options


# Kinds of job on the control socket.
RUN = b"r"
TASK = b"t"
SIGNAL = b"s"

# First elements of the frames on a job socket.
RESULT = "result"
ERROR = "error"
EXIT = "exit"

MAX_FDS = 8
_INT = 4


def pack(value: Any) -> bytes:
    """One frame: length and marshalled value."""
    data = marshal.dumps(value)
    return len(data).to_bytes(4, "little") + data


def send_frame(fd: int, value: Any) -> None:
    """Write one frame to a blocking stream socket."""
    send_bytes(fd, pack(value))


def send_bytes(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write what `read_bytes` is to read."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_frame(fd: int) -> Any:
    """Read one frame; raises `EOFError` when the other end is gone."""
    return marshal.loads(read_bytes(fd, int.from_bytes(read_bytes(fd, 4), "little")))


def read_bytes(fd: int, size: int) -> bytearray:
    """Read exactly so much; raises `EOFError`."""
    data = bytearray(size)
    with memoryview(data) as view:
        got = 0
        while got < size:
            count = os.readv(fd, [view[got:]])
            if not count:
                raise EOFError
            got += count
    return data


def send_job(control: _socket.socket, kind: bytes, number: int, fds: tuple[int, ...]) -> None:
    """Hand a job and its descriptors (the job's socket first) to the holder."""
    packed = b"".join(fd.to_bytes(_INT, "little") for fd in fds)
    control.sendmsg(
        [kind, number.to_bytes(_INT, "little")],
        [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)],
        _socket.MSG_NOSIGNAL,
    )


def send_signal(control: _socket.socket, number: int, signal: int) -> None:
    """Have the holder pass `signal` on to job `number`."""
    control.send(SIGNAL + number.to_bytes(_INT, "little") + bytes([signal]), _socket.MSG_NOSIGNAL)


def receive_job(control: _socket.socket) -> tuple[bytes, int, int, list[int]]:
    """The next message: its kind (empty when the client is gone), job number, signal and descriptors."""
    data, ancillary, _flags, _address = control.recvmsg(
        16, _socket.CMSG_SPACE(MAX_FDS * _INT), _socket.MSG_CMSG_CLOEXEC
    )
    fds = []
    for _level, _type, packed in ancillary:
        for start in range(0, len(packed) - len(packed) % _INT, _INT):
            fds.append(int.from_bytes(packed[start : start + _INT], "little"))
    signal = data[1 + _INT] if len(data) > 1 + _INT else 0
    return data[:1], int.from_bytes(data[1 : 1 + _INT], "little"), signal, fds
