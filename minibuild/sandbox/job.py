"""The client's end of one job: its socket, its output pipes, and waiting for it to be over."""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import os
import select
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from minibuild_store import stopping

from minibuild import errors
from minibuild.errors import Cancelled, MinibuildError, SandboxError
from minibuild.sandbox import protocol
from minibuild.sandbox.spec import ExitStatus

Output = Callable[[int, bytes], None]

_CANCEL_POLL_MS: Final = 50
_PIPE_BYTES: Final = 1 << 18
_GONE: Final = (BrokenPipeError, ConnectionResetError)


class Pipes:
    """Standard output and error of a process, delivered to a callback by whoever calls `read`."""

    def __init__(self, output: Output | None) -> None:
        self._output = output
        self._ours: dict[int, int] = {}
        self.theirs: tuple[int, ...] = ()
        for number in (1, 2):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            with contextlib.suppress(OSError):  # the user's pipe quota is used up: a small one works too
                fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._ours[ours] = number
            self.theirs += (theirs,)

    def fds(self) -> list[int]:
        """Descriptors to wait on."""
        return list(self._ours)

    def read(self, fd: int) -> bool:
        """Deliver what there is, at most one pipe full; false once nothing more can come."""
        try:
            data = os.read(fd, _PIPE_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        if self._output is not None:
            self._output(self._ours[fd], data)
        return True

    def drain(self) -> None:
        """Deliver what is left after the process and all its descendants are gone."""
        for fd, number in self._ours.items():
            try:
                while data := os.read(fd, _PIPE_BYTES):
                    if self._output is not None:
                        self._output(number, data)
            except BlockingIOError:
                pass  # someone outside the sandbox was handed the pipe: do not wait for them

    def close_theirs(self) -> None:
        for fd in self.theirs:
            os.close(fd)
        self.theirs = ()

    def close(self) -> None:
        self.close_theirs()
        for fd in self._ours:
            os.close(fd)
        self._ours.clear()


class Job:
    """A job that was handed to the holder; leaving the context ends it if it has not ended.

    `signal` has the holder pass a signal on to it.
    """

    def __init__(self, handle: _socket.socket, signal: Callable[[int], None]) -> None:
        self._socket = handle
        self._signal = signal
        self._ended = False
        self._result: tuple[Any, bytearray] = None, bytearray()
        self._failure: MinibuildError | None = None
        self._status = ExitStatus(0)

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if not self._ended:
                self._kill()
                while not self._ended:
                    self._read_frame()
        finally:
            self._socket.close()

    def request(self, value: Any) -> None:
        """Tell the child what to do."""
        with contextlib.suppress(*_GONE):  # why it is gone comes as a frame
            self._socket.sendall(protocol.pack(value), _socket.MSG_NOSIGNAL)

    def answer(self, *, stops: bool = False) -> tuple[Any, bytearray]:
        """Wait for the child to end; its result, and the large bytes of it. Raises what it reported.

        With `stops` what `stopping.check` raises ends the wait.
        """
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while not self._ended:
            while stops and not poll.poll(_CANCEL_POLL_MS):
                stopping.check()
            self._read_frame()
        if self._failure is not None:
            raise self._failure
        if self._status.code:
            raise _died(self._status)
        return self._result

    def wait(
        self,
        pipes: Pipes | None,
        cancel: threading.Event | None,
        timeout: float | None,
        signals: SimpleQueue[int] | None = None,
    ) -> ExitStatus:
        """Deliver output until the child ends; raises what it reported, or `Cancelled`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        timed_out = cancelled = False
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        for fd in pipes.fds() if pipes else ():
            poll.register(fd, select.POLLIN)
        while not self._ended:
            stopped = timed_out or cancelled
            for fd, _events in poll.poll(None if stopped else _wait_ms(deadline, cancel, signals)):
                if fd == self._socket.fileno():
                    self._read_frame()
                elif pipes and not pipes.read(fd):
                    poll.unregister(fd)
            while signals is not None and not signals.empty():
                self._signal(signals.get())
            if not stopped and not self._ended:
                cancelled = cancel is not None and cancel.is_set()
                timed_out = not cancelled and deadline is not None and time.monotonic() >= deadline
                if cancelled or timed_out:
                    self._kill()
        if pipes:
            pipes.drain()
        if self._failure is not None:
            raise self._failure
        if cancelled:
            raise Cancelled
        return ExitStatus(self._status.code, oom_killed=self._status.oom_killed, timed_out=timed_out)

    def _kill(self) -> None:
        """Hang up one way: the holder kills the child and still tells how it ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(_socket.SHUT_WR)

    def _read_frame(self) -> None:
        try:
            kind, *values = protocol.read_frame(self._socket.fileno())
            if kind == protocol.RESULT:
                answer, size = values
                self._result = answer, protocol.read_bytes(self._socket.fileno(), size)
        except (EOFError, *_GONE):
            self._ended = True
            if self._failure is None:
                self._failure = SandboxError("the sandbox process ended before its job did")
            return
        if kind == protocol.ERROR:
            self._failure = _error(*values)
        elif kind == protocol.EXIT:
            code, out_of_memory, failure = values
            self._ended = True
            self._status = ExitStatus(code, oom_killed=out_of_memory)
            if failure and self._failure is None:
                self._failure = SandboxError(failure)


def _wait_ms(
    deadline: float | None, cancel: threading.Event | None, signals: SimpleQueue[int] | None
) -> int | None:
    left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
    if cancel is None and signals is None:
        return left
    # Neither an event nor a queue can be polled for, so look at them now and then.
    return _CANCEL_POLL_MS if left is None else min(left, _CANCEL_POLL_MS)


def _error(family: str, message: str, cure: str) -> MinibuildError:
    """The error a child reported, in its own family where that takes a plain message."""
    found = getattr(errors, family, SandboxError)
    plain = isinstance(found, type) and issubclass(found, MinibuildError)
    if found in (errors.RunFailed, Cancelled):
        plain = False
    return (found if plain else SandboxError)(message, cure=cure)


def _died(status: ExitStatus) -> SandboxError:
    why = "for lack of memory" if status.oom_killed else f"with exit code {status.code}"
    return SandboxError(f"a sandbox process ended {why}")
