"""Writing to a pipe whose reader may stop reading: the writer looks up now and then."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from typing import Final

from minibuild_store import stopping

_WAIT_MS: Final = int(stopping.POLL * 1000)


class Pipe:
    """The writing end `fd` of a pipe, or a socket; `fd` stays the caller's. Close it.

    `fd` here is a second one, made not to block where that does not change what others hold of the pipe;
    `most` is how many bytes to write at once after `ready`.
    """

    def __init__(self, fd: int) -> None:
        try:
            self.fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.most, self.blocks = 1 << 20, False
        except OSError:  # a socket, another user's pipe, one without a reader
            self.fd = os.dup(fd)
            self.most, self.blocks = select.PIPE_BUF, True  # there is room for as much once there is for any
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)

    def ready(self) -> None:
        """Wait until something can be written, or the reader is gone; `stopping.check` may end it."""
        stopping.check()
        while not self._poll.poll(_WAIT_MS):
            stopping.check()

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`."""
        rest = memoryview(data).cast("B")
        while rest:
            self.ready()
            try:
                rest = rest[os.write(self.fd, rest[: self.most]) :]
            except BlockingIOError:  # somebody else has filled it
                continue

    def close(self) -> None:
        os.close(self.fd)


def open_fifo(path: Path) -> int:
    """Open a named pipe to write to it, once somebody opens it to read."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        stopping.pause(stopping.POLL)
