"""``--on-error``: a shell in the step that failed, or its files in a tar."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
import threading
import tty
from pathlib import Path

from minibuild_store.files import write_all

from minibuild.cli.sink import Sink
from minibuild.engine.failure import FailedStep
from minibuild.errors import Cancelled, MinibuildError, UsageError
from minibuild.events import Event

_FILE = "failed-step.tar"
_POLL_SECONDS = 0.2
_CHUNK = 1 << 16


def parse_on_error(text: str) -> OnError:
    """``shell`` or ``export[=FILE]``; raises `UsageError`."""
    kind, equals, name = text.partition("=")
    if kind == "shell" and not equals:
        if not os.isatty(0):
            raise UsageError(
                "--on-error=shell: standard input is no terminal",
                cure="Where nobody can type, take the files along with --on-error=export.",
            )
        return OnError(None)
    if kind != "export" or (equals and not name):
        raise UsageError(f"--on-error={text}", cure="Say shell, export or export=FILE.")
    path = Path(name or _FILE)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(
            f"--on-error={text}: {path} cannot be written", cure="Name a file in a folder there is."
        )
    return OnError(path)


class Held(Sink):
    """Passes events on, or keeps them while something else has the terminal."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self._kept: list[Event] | None = None
        self._mutex = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._mutex:
            if self._kept is not None:
                self._kept.append(event)
                return
        self._inner(event)

    def hold(self) -> None:
        with self._mutex:
            self._kept = []
        self._inner.pause()

    def release(self) -> None:
        self._inner.resume()
        with self._mutex:
            kept, self._kept = self._kept or [], None
        for event in kept:
            self._inner(event)


class OnError:
    """What is done with a step that fails; `file` is where its files go, None for a shell."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._held: Held | None = None

    def held(self, sink: Sink) -> Held:
        """The sink to build with: silent while the shell is open."""
        self._held = Held(sink)
        return self._held

    def __call__(self, step: FailedStep) -> None:
        assert self._held is not None
        self._held.hold()
        try:
            if self._file is None:
                _shell(step)
            else:
                step.export(self._file)
                _say(f"\nThe files of the failed step are in {self._file}.\n")
        except Cancelled:
            raise
        except MinibuildError as error:  # the step's own error is the one to end with
            _say(f"\n--on-error: {error.message}\n{error.cure}\n")
        finally:
            self._held.release()


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _shell(step: FailedStep) -> None:
    _say(
        f"\nERROR: {step.error.message}\n"
        f"This is a shell in the failed step, as {step.user} in {step.folder}; exit ends the build.\n"
    )
    outer = next((fd for fd in (2, 1) if os.isatty(fd)), 0)
    ours, theirs = os.openpty()
    over, ended = os.pipe()
    before = termios.tcgetattr(0)
    _copy_size(ours)
    pump = threading.Thread(target=_pump, args=(ours, outer, over), daemon=True)
    try:
        tty.setraw(0)
        pump.start()
        step.shell((theirs, theirs, theirs), env=(("TERM", os.environ.get("TERM", "dumb")),))
    finally:
        os.close(theirs)
        os.write(ended, b"x")
        pump.join()
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        for fd in (ours, over, ended):
            os.close(fd)


def _pump(ours: int, outer: int, over: int) -> None:
    """Between the terminal and the shell's own, until `over` is readable and nothing is left to show."""
    sources = [0, ours, over]
    while True:
        ready = select.select(sources, [], [], _POLL_SECONDS)[0]
        _copy_size(ours)
        if ours in ready:
            try:
                data = os.read(ours, _CHUNK)
            except OSError:  # nobody has the other end
                return
            write_all(outer, data)
        elif over in ready:
            return
        if 0 in ready:
            data = os.read(0, _CHUNK)
            if not data:
                sources.remove(0)
            write_all(ours, data or b"\x04")


def _copy_size(ours: int) -> None:
    """Give the shell's terminal the size of the outer one; the kernel tells the shell where it differs."""
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        fcntl.ioctl(ours, termios.TIOCSWINSZ, size)
