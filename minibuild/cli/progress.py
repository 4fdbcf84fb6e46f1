"""Build events as people and programs read them."""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO

from minibuild.cli.sink import Sink, check_lines, human_size, summary
from minibuild.errors import UsageError
from minibuild.events import (
    BuildFinished,
    CheckWarnings,
    Event,
    Notice,
    StepFailed,
    StepFinished,
    StepMissed,
    StepOutput,
    StepProgress,
    StepStarted,
)

_LONGEST = 1 << 16  # bytes: a line is shown once it has ended, a longer one in pieces of this size
_KINDS = ("auto", "plain", "tty", "rawjson", "quiet", "none")


def sink_for(kind: str, stream: TextIO, *, explain: bool = False) -> Sink:
    """The display called `kind`; ``auto`` is ``tty`` on a terminal and ``plain`` elsewhere.

    With `explain` it shows all that changed where a step is not cached, not only the first cause.
    """
    if kind not in _KINDS:
        raise UsageError(f"--progress {kind}", cure=f"Known are {', '.join(_KINDS)}.")
    if kind == "auto":
        kind = "tty" if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    if kind == "plain":
        return Plain(stream, explain=explain)
    if kind == "tty":
        from minibuild.cli.terminal import Terminal

        return Terminal(stream, explain=explain)
    if kind == "rawjson":
        return RawJson(stream)
    return Quiet(stream)


class Quiet(Sink):
    """Only warnings."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice) and event.kind == "warning":
            print(f"WARNING: {event.text}", file=self._stream)


class RawJson(Sink):
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        import json

        from minibuild.values import asdict

        document = {"event": type(event).__name__, "time": time.time(), **asdict(event)}
        if isinstance(event, StepOutput):
            document["data"] = event.data.decode("utf-8", "replace")
        print(json.dumps(document), file=self._stream, flush=True)


class Plain(Sink):
    """Numbered steps and their output as it comes, in BuildKit's manner."""

    def __init__(self, stream: TextIO, *, explain: bool = False) -> None:
        self._stream = stream
        self._explain = explain
        self._names: dict[int, str] = {}
        self._started: dict[int, float] = {}
        self._rest: dict[int, bytes] = {}
        self._pulled: dict[tuple[int, str], float] = {}
        self._last = 0
        self._mutex = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._mutex:
            self._show(event)
            self._stream.flush()

    def _show(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._names[event.id] = event.name
                self._started[event.id] = time.monotonic()
                self._turn(event.id)
            case StepMissed():
                self._line(event.id, f"not cached: {event.reason}")
                for line in event.details if self._explain else ():
                    self._line(event.id, f"  {line}")
            case StepOutput():
                self._output(event)
            case StepProgress():
                self._progress(event)
            case StepFinished():
                self._flush(event.id)
                size = f", {human_size(event.bytes)}" if event.bytes else ""
                self._line(event.id, "CACHED" if event.cached else f"DONE {event.seconds:.1f}s{size}")
            case StepFailed():
                self._flush(event.id)
                self._line(event.id, f"ERROR: {event.message}")
            case Notice():
                self._write(f"\n{event.kind.upper()}: {event.text}\n")
                self._last = 0
            case CheckWarnings():
                self._write(f"\n{check_lines(event)}\n")
                self._last = 0
            case BuildFinished():
                self._write(f"\n{summary(event)}\n")

    def _turn(self, step: int) -> None:
        """Say which step the next lines belong to, where that changes."""
        if self._last != step:
            blank = "\n" if self._last else ""
            self._write(f"{blank}#{step} {self._names.get(step, '')}\n")
            self._last = step

    def _line(self, step: int, text: str) -> None:
        if step not in self._names:
            return
        self._turn(step)
        self._write(f"#{step} {text}\n")

    def _output(self, event: StepOutput) -> None:
        data = self._rest.pop(event.id, b"") + event.data
        begin = 0
        while begin < len(data):
            end = data.rfind(b"\n", begin, begin + _LONGEST + 1) + 1
            if not end:
                if len(data) - begin <= _LONGEST:
                    break
                end = _between_characters(data, begin + _LONGEST)
            self._lines(event.id, data[begin:end])
            begin = end
        self._rest[event.id] = data[begin:]

    def _lines(self, step: int, data: bytes) -> None:
        """Show whole lines, or one without an end."""
        seconds = time.monotonic() - self._started.get(step, 0.0)
        text = data.removesuffix(b"\n").decode("utf-8", "replace")
        if "\r" in text:
            text = "\n".join(line.rstrip("\r") for line in text.split("\n"))
        self._line(step, f"{seconds:.3f} " + text.replace("\n", f"\n#{step} {seconds:.3f} "))

    def _flush(self, step: int) -> None:
        rest = self._rest.pop(step, b"")
        if rest:
            self._output(StepOutput(step, 1, rest + b"\n"))

    def _progress(self, event: StepProgress) -> None:
        """A line a blob when it starts, then one every five seconds, then one when it is whole."""
        key = (event.id, event.what)
        now = time.monotonic()
        done = event.total and event.done >= event.total
        if done:
            if self._pulled.get(key) == -1.0:
                return
            self._pulled[key] = -1.0
        elif now - self._pulled.get(key, -9.0) < 5.0:
            return
        else:
            self._pulled[key] = now
        size = f"{human_size(event.done)} / {human_size(event.total)}"
        self._line(event.id, f"{event.what} {size}{' done' if done else ''}")

    def _write(self, text: str) -> None:
        self._stream.write(text)


def _between_characters(data: bytes, place: int) -> int:
    """`place`, or up to three bytes before it, so that no character of UTF-8 is cut there."""
    for begin in range(place, place - 4, -1):
        if data[begin] & 0xC0 != 0x80:
            return begin
    return place
