"""The live view: steps that run, redrawn in place, above them what is done."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from typing import TextIO

from minibuild.cli.sink import Sink, check_lines, human_size, summary
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
from minibuild.values import dataclass, field

_REDRAW_SECONDS = 0.1
_TAIL_LINES = 6
_LEAST_NAME = 24
_LONGEST = 4096  # bytes of a line: no terminal is wider
_LOG_BYTES = 1 << 20  # what is kept of a step's output, should it fail


@dataclass(slots=True)
class _Step:
    name: str
    started: float
    reason: str = ""
    details: tuple[str, ...] = ()
    log: bytearray = field(default_factory=bytearray)
    left_out: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    partial: bytes = b""
    pulls: dict[str, tuple[int, int]] = field(default_factory=dict)


class Terminal(Sink):
    """Finished steps scroll by as single lines; running ones show seconds, progress and their last output.

    A step that fails leaves its output, the last megabyte of it.
    """

    def __init__(self, stream: TextIO, *, explain: bool = False) -> None:
        self._stream = stream
        self._explain = explain
        self._running: dict[int, _Step] = {}
        self._drawn = 0
        self._paused = False
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def close(self) -> None:
        self._ended.set()
        self._ticker.join()
        with self._mutex:
            self._erase()
            self._stream.flush()

    def pause(self) -> None:
        """What is drawn stays, with the last lines of what runs; nothing is drawn over it."""
        with self._mutex:
            self._erase()
            self._draw()
            self._stream.flush()
            self._drawn = 0
            self._paused = True

    def resume(self) -> None:
        with self._mutex:
            self._paused = False

    def __call__(self, event: Event) -> None:
        with self._mutex:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._running[event.id] = _Step(event.name, time.monotonic())
            case StepMissed():
                self._running[event.id].reason = event.reason
                self._running[event.id].details = event.details if self._explain else ()
            case StepOutput():
                self._output(event)
            case StepProgress():
                if event.id in self._running:
                    self._running[event.id].pulls[event.what] = (event.done, event.total)
            case StepFinished():
                step = self._running.pop(event.id)
                state = "CACHED" if event.cached else f"{event.seconds:.1f}s"
                name = f" => {'CACHED ' if event.cached else ''}{step.name}"
                self._above(_with_reason(name, step.reason, _width() - len(state) - 2), state)
                for line in step.details:
                    self._above(f" =>   {line}", "")
            case StepFailed():
                step = self._running.pop(event.id)
                self._above(f" => ERROR {step.name}", f"{event.seconds:.1f}s")
                self._print(_output_of(step))
            case Notice():
                self._above(f" {event.kind.upper()}: {event.text}", "")
            case CheckWarnings():
                for line in check_lines(event).split("\n"):
                    self._above(f" {line}", "")
            case BuildFinished():
                self._above(summary(event), "")

    def _output(self, event: StepOutput) -> None:
        step = self._running[event.id]
        step.log += event.data
        if len(step.log) > 2 * _LOG_BYTES:
            step.left_out += len(step.log) - _LOG_BYTES
            del step.log[:-_LOG_BYTES]
        # the lines before those that are shown stay one piece, the first, which the deque lets go
        *lines, partial = (step.partial + event.data).rsplit(b"\n", _TAIL_LINES + 1)
        if len(partial) > _LONGEST:
            partial = _last_written(partial) + (b"\r" if partial.endswith(b"\r") else b"")
        step.partial = partial
        step.tail.extend(_last_written(line).decode("utf-8", "replace") for line in lines[-_TAIL_LINES:])

    def _tick(self) -> None:
        while not self._ended.wait(_REDRAW_SECONDS):
            with self._mutex:
                if self._paused:
                    continue
                self._erase()
                self._draw()
                self._stream.flush()

    def _above(self, text: str, state: str) -> None:
        """Print a line that stays."""
        self._erase()
        self._print(_justified(text, state, _width()))
        self._draw()
        self._stream.flush()

    def _print(self, text: str) -> None:
        if text:
            self._stream.write(text if text.endswith("\n") else text + "\n")

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        width, height = shutil.get_terminal_size()
        lines: list[str] = []
        for step in self._running.values():
            seconds = f"{time.monotonic() - step.started:.1f}s"
            lines.append(_justified(f" => {step.name}", seconds, width))
            for what, (done, total) in step.pulls.items():
                if done < total:
                    lines.append(f" =>   {what[:19]} {human_size(done)} / {human_size(total)}"[:width])
            lines.extend(f" =>   {_printable(line)}"[: width - 1] for line in step.tail)
        for line in lines[: height - 2]:
            self._stream.write(line + "\n")
        self._drawn = min(len(lines), height - 2)


def _output_of(step: _Step) -> str:
    """What a failed step printed, less what is too much."""
    log = bytes(step.log[-_LOG_BYTES:])
    left_out = step.left_out + len(step.log) - len(log)
    if not left_out:
        return log.decode("utf-8", "replace")
    rest = log.partition(b"\n")[2] or log
    size = human_size(left_out + len(log) - len(rest))
    text = rest.decode("utf-8", "replace")
    return f"[the first {size} of output left out; --progress plain shows all]\n{text}"


def _last_written(line: bytes) -> bytes:
    """What a terminal shows of a line that was written over again and again, as far as there is room."""
    end = len(line)
    while end and line[end - 1] == 13:
        end -= 1
    return line[line.rfind(b"\r", 0, end) + 1 : end][:_LONGEST]


def _justified(text: str, state: str, width: int) -> str:
    room = max(width - len(state) - 2, 10)
    line = _printable(text.split("\n")[0])
    if len(line) > room and state:
        line = line[: room - 1] + "…"
    return f"{line:<{room}} {state}" if state else line


def _with_reason(name: str, reason: str, room: int) -> str:
    """`name` and why it was not cached; of a name that is too long the end goes first."""
    if not reason:
        return name
    name, tail = name.split("\n")[0], f"  ({reason})"
    left = max(room - len(tail), _LEAST_NAME)
    return (name if len(name) <= left else name[: left - 1] + "…") + tail


def _printable(text: str) -> str:
    """`text` without the escape sequences a command may send to move the cursor about."""
    return "".join(character for character in text if character.isprintable() or character == "\t")


def _width() -> int:
    return shutil.get_terminal_size().columns
