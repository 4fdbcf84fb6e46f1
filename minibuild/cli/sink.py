"""What every display of build events is, and the words they share."""

from __future__ import annotations

from contextlib import AbstractContextManager

from minibuild.events import BuildFinished, CheckWarnings, Event


class Sink(AbstractContextManager["Sink"]):
    """Takes events; leaving the block ends the display."""

    def __call__(self, event: Event) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.close()

    def pause(self) -> None:
        """Something else has the terminal; no event comes meanwhile."""

    def resume(self) -> None:
        """The terminal is ours again."""

    def close(self) -> None:
        """Nothing more will come."""


def human_size(count: float) -> str:
    """Bytes as people read them: ``12.3MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f}TB"


def summary(event: BuildFinished) -> str:
    saved = f", {event.seconds_saved:.1f}s saved" if event.seconds_saved >= 0.05 else ""
    steps = "1 step" if event.steps == 1 else f"{event.steps} steps"
    return (
        f"{steps}, {event.hits} cached, {event.seconds:.1f}s{saved}, {human_size(event.bytes)} of new layers"
    )


def check_lines(event: CheckWarnings) -> str:
    """What the build checks found, a line each, as docker lists it."""
    count = len(event.warnings)
    head = f"{count} warning{'s' if count > 1 else ''} found (minibuild build --check shows the lines):"
    rows = (f" - {one.rule}: {one.message} (line {one.line})" for one in event.warnings)
    return "\n".join((head, *rows))
