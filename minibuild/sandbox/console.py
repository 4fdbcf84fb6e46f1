"""The terminal that an OCI runtime makes for a process, joined to the one that the process was given."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import termios
import tty

_CHUNK = 1 << 16
_HAND_OVER_SECONDS = 10.0
_LOOK_MS = 200  # how often the outer terminal's size is looked at: nobody tells us when it changes


class Console:
    """`path` is the socket on which the runtime hands its end over; `outer` the terminal that there is."""

    def __init__(self, outer: int, path: str) -> None:
        self.path = path
        self._outer = outer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._listener.settimeout(_HAND_OVER_SECONDS)

    def relay(self, process_fd: int) -> None:
        """Pass on what is typed and shown until the process has ended; -1 for one that has already."""
        inner = self._receive()
        before = termios.tcgetattr(self._outer)
        tty.setraw(self._outer, termios.TCSANOW)  # what was typed before is not lost
        try:
            self._pump(inner, process_fd)
        finally:
            termios.tcsetattr(self._outer, termios.TCSADRAIN, before)

    def _receive(self) -> int:
        try:
            with self._listener:
                connection, _address = self._listener.accept()
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the OCI runtime hands no terminal over") from None
        with connection:
            _name, fds, _flags, _from = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        return fds[0]

    def _pump(self, inner: int, process_fd: int) -> None:
        """Neither side is waited for: what one has not taken is kept, and the other not read meanwhile."""
        outer = self._outer
        os.set_blocking(inner, False)
        typed = shown = b""
        open_ends = {outer, inner}
        running = process_fd >= 0
        while running or shown or inner in open_ends:
            self._copy_size(inner)
            poll = select.poll()
            if running:
                poll.register(process_fd, select.POLLIN)
            for end, unsent, waiting in ((outer, shown, typed), (inner, typed, shown)):
                wanted = (select.POLLOUT if unsent else 0) | (select.POLLIN if not waiting else 0)
                if end in open_ends and wanted:
                    poll.register(end, wanted)
            ready = dict(poll.poll(_LOOK_MS))
            if not ready and not running:
                return  # somebody outside was handed the terminal
            if ready.get(outer, 0) & select.POLLOUT:
                shown = shown[os.write(outer, shown) :]
            if ready.get(inner, 0) & select.POLLOUT:
                typed = typed[_try_write(inner, typed) :]
            if ready.get(outer, 0) & ~select.POLLOUT:
                typed += _read(outer, open_ends)  # a hang-up is told even where nobody asked to read
            if ready.get(inner, 0) & ~select.POLLOUT:
                shown += _read(inner, open_ends)
            running = running and process_fd not in ready

    def _copy_size(self, inner: int) -> None:
        """The kernel tells the processes inside where the size differs."""
        try:
            size = fcntl.ioctl(self._outer, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
        except OSError:
            pass


def _read(fd: int, open_ends: set[int]) -> bytes:
    """What there is to read; at its end the descriptor is taken out of `open_ends`."""
    try:
        data = os.read(fd, _CHUNK)
    except BlockingIOError:
        return b""
    except OSError:  # nobody has the other end
        data = b""
    if not data:
        open_ends.discard(fd)
    return data


def _try_write(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # nobody is there to take it
