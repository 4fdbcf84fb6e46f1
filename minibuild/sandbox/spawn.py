"""Starting the holder: a fresh interpreter that loads a handful of modules and nothing of the caller's."""

from __future__ import annotations

import _socket  # `socket` takes 3 ms to load
import contextlib
import marshal
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import minibuild_store

import minibuild
from minibuild.errors import MinibuildError, SandboxError
from minibuild.sandbox import exe, probe, userns

# `minibuild` itself is put in place as an empty package: its public face would load the whole engine.
# What the caller left open for its children is closed, and the interpreter is not taken apart at the end.
_BOOT: Final = """
import posix, sys
posix.chdir("/")
for start, end in {closed!r}:
    posix.closerange(start, end)
sys.path[:] = {path!r}
package = type(sys)("minibuild")
package.__path__ = {package!r}
sys.modules["minibuild"] = package
from minibuild.sandbox.holder import main
main({fd}, {pid}, ids={ids!r})
posix._exit(0)
"""
_START_SECONDS: Final = 30.0
_MOST_FDS: Final = 1 << 16
_IDS: Final = {
    probe.Mode.ALL_IDS: "mapped",
    probe.Mode.SUBUID: "mapped",
    probe.Mode.SINGLE: "single",
    probe.Mode.CHROOT: "chroot",
}


class Process:
    """A child of this process, as `subprocess` has it, which takes as long to load as a child to start."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.reaped = False
        self._mutex = threading.Lock()

    def kill(self) -> None:
        with self._mutex:
            if not self.reaped:  # or the number may be another's
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Return once it is no more; for a child that `ends`, or was killed."""
        with self._mutex:
            if not self.reaped:
                with contextlib.suppress(ChildProcessError):  # where the caller ignores SIGCHLD
                    os.waitpid(self.pid, 0)
                self.reaped = True


class Launched:
    """A holder that has been started in `mode`, and may not serve `control` yet."""

    def __init__(self, mode: probe.Mode, machine: probe.Machine) -> None:
        """Start it; raises `SandboxError`."""
        self.mode = mode
        self.machine = machine
        self._tools = userns.require_tools() if mode is probe.Mode.SUBUID else ("", "")
        self.control, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._errors_fd = -1
        try:
            with contextlib.closing(theirs):
                self._errors_fd = os.memfd_create("errors", os.MFD_CLOEXEC)
                self.process = _start(theirs.fileno(), mode, self._errors_fd)
        except BaseException:
            self._close()
            raise

    def ready(self) -> None:
        """Wait until it serves; raises `SandboxError`, and then it is no more."""
        try:
            self._shake_hands()
        except BaseException:
            self.abandon()
            raise
        os.close(self._errors_fd)

    def abandon(self) -> None:
        """End it, instead of `ready`."""
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self.control.close()
        if self._errors_fd >= 0:
            os.close(self._errors_fd)

    def _shake_hands(self) -> None:
        control = self.control
        control.settimeout(_START_SECONDS)
        while True:
            try:
                message = control.recv(1 << 16)
            except TimeoutError:
                raise SandboxError(f"the sandbox did not start within {_START_SECONDS:.0f} s") from None
            except ConnectionResetError:
                message = b""
            if message == b"M":
                self._map_ids()
                control.send(b"m", _socket.MSG_NOSIGNAL)
            elif message == b"R":
                control.settimeout(None)
                return
            elif message[:1] == b"E":
                raise probe.explain(self.machine, self.mode, marshal.loads(message[1:])[1])
            else:
                text = os.pread(self._errors_fd, 1 << 16, 0).decode("utf-8", "replace").strip()
                raise SandboxError(f"the sandbox ended while it started: {text or 'no message'}")

    def _map_ids(self) -> None:
        if self.mode is probe.Mode.ALL_IDS:
            userns.map_all(self.process.pid)
        else:
            machine = self.machine
            ranges = machine.subuid, machine.subgid
            userns.write_maps(self.process.pid, machine.uid, machine.gid, *ranges, self._tools)


def launch(isolation: str) -> Launched | None:
    """Start a holder in the mode that `Sandbox.start` tries first; None where it is to say why that fails."""
    machine = probe.look()
    try:
        modes, _ = probe.ladder(machine, isolation)
        return Launched(modes[0], machine) if modes else None
    except (MinibuildError, OSError):
        return None


def ends(process: Process, seconds: float) -> bool:
    """Whether the process, not waited for yet, ends in time."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:  # another thread has waited for it
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


def _start(fd: int, mode: probe.Mode, errors_fd: int) -> Process:
    executable, executable_fd, environment = exe.interpreter()
    control = max(fd, errors_fd, executable_fd or 0, 2) + 1  # a number that nothing of ours has
    code = _BOOT.format(
        path=_search_path(),
        package=list(minibuild.__path__),
        closed=((3, control), (control + 1, _MOST_FDS)),
        fd=control,
        pid=os.getpid(),
        ids=_IDS.get(mode, ""),
    )
    try:
        pid = os.posix_spawn(
            executable,
            [sys.executable, "-I", "-S", "-E", "-X", "utf8", "-c", code],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, fd, control),
                (os.POSIX_SPAWN_DUP2, errors_fd, 2),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,  # an interrupt from the terminal is the client's to handle
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
        )
        return Process(pid)
    except OSError as error:
        raise SandboxError(f"the sandbox could not start {sys.executable}: {error.strerror}") from None
    finally:
        if executable_fd is not None:
            os.close(executable_fd)


def _search_path() -> list[str]:
    """The standard library first, then our own packages, then wherever dependencies come from."""
    own = [str(Path(folder).parent) for folder in (*minibuild.__path__, *minibuild_store.__path__)]
    library = str(Path(os.__file__).parent)
    rest = [str(Path(folder).absolute()) for folder in sys.path if folder]
    standard = [folder for folder in rest if folder == library or folder.startswith(f"{library}/lib-dynload")]
    return list(dict.fromkeys([*standard, *own, *rest]))
