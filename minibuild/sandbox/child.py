"""The life of a child that the holder has forked: one run, or tasks one after the other.

It may be forked before there is anything for it to do.
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import select

from minibuild.refusals import CURES, named
from minibuild.sandbox import chroot, process, protocol, syscalls, systemfs, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable


def begin(kind: bytes, line: _socket.socket, notes_fd: int, host: process.Host) -> None:
    """The life of a forked child, whose jobs come by `line`; never returns.

    What all jobs of its kind need is made ready before there is one.
    """
    code = 1
    fds: list[int] = []
    try:
        if kind == protocol.RUN:
            system = systemfs.System(unified_cgroup=host.unified_cgroup)
            if not chroot.active():
                system.prepare()
            fds = protocol.receive_job(line)[3]
            code = _run(fds, notes_fd, host, system) if fds else 0
        else:
            from minibuild.sandbox import tasks  # not in the holder, which is forked for every run

            gc.freeze()
            gc.enable()
            if not chroot.active():
                syscalls.unshare(syscalls.CLONE_NEWNS, "make a mount namespace")
            while fds := _next_task(line, tasks.prepare):
                name, arguments = protocol.read_frame(fds[0])
                answer, large = tasks.run(name, arguments, fds[1:])
                protocol.send_frame(fds[0], (protocol.RESULT, answer, len(large)))
                protocol.send_bytes(fds[0], large)
                del large
                for fd in fds:
                    os.close(fd)
                line.send(b"d")
            code = 0
    except (EOFError, BrokenPipeError):
        pass  # the client gave up
    except BaseException as error:  # a child must not fall back into the holder's loop
        fds = fds or protocol.receive_job(line)[3]  # there is nobody to tell before
        if fds:
            _report(fds[0], error)
    finally:
        os._exit(code)


def _next_task(line: _socket.socket, prepare: Callable[[], None]) -> list[int]:
    """The descriptors of the next job; where none is there yet, the time is used to `prepare`."""
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    if not poll.poll(0):
        prepare()
    return protocol.receive_job(line)[3]


def _run(fds: list[int], notes_fd: int, host: process.Host, system: systemfs.System) -> int:
    request = protocol.read_frame(fds[0])
    if chroot.active():
        return chroot.run(request, host, system, fds, notes_fd, _report)
    if request["runtime"]:
        from minibuild.sandbox import oci  # still the host's

        return oci.run(request, host, system, fds, notes_fd)
    launch = process.Launch(request, host, system, tuple(fds[1:]))
    try:
        launch.prepare()
    finally:
        if launch.stubs:
            os.write(notes_fd, marshal.dumps((launch.upper, launch.stubs)))
    launch.enter()
    return launch.execute()


def _report(socket_fd: int, error: BaseException) -> None:
    """Tell the client what failed: family, message, cure. No traceback: it would read source files."""
    cure = getattr(error, "cure", "")
    if isinstance(error, users.UnknownUser):
        family, message = "UsageError", str(error)
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        family, message = "OutputError", "no space left on the disk that the store is on"
        cure = "Free some, or name another place with MINIBUILD_ROOT; nothing is lost."
    elif isinstance(error, OSError):
        # An error of the layer code names its file; ours carries the operation in its text.
        family, message = "SandboxError", f"{named(error)}{error.strerror or error}"
        cure = _cure(error)
    else:
        family = type(error).__name__
        message = getattr(error, "message", "") or f"{family}: {error}"
    try:  # noqa: SIM105
        protocol.send_frame(socket_fd, (protocol.ERROR, family, message, cure))
    except OSError:
        pass


def _cure(error: OSError) -> str:
    """What may help against a refusal by the kernel; errors that name a file are not ours."""
    if error.errno == errno.EINVAL and "overlay" in (error.strerror or ""):
        return (
            "Keep the store on a file system that overlayfs can write to: ext4, xfs, btrfs or tmpfs, not"
            " another overlay (in a container, a volume)."
        )
    if error.errno in (errno.EPERM, errno.EACCES) and error.filename is None:
        return (
            "In a container, start it with --security-opt seccomp=unconfined,"
            " --security-opt apparmor=unconfined and --security-opt systempaths=unconfined."
        )
    return CURES.get(error.errno or 0, "")
