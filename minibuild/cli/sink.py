"""What every display of build events is, and the words they share."""

from __future__ import annotations

from contextlib import AbstractContextManager

from minibuild.events import BuildFinished, Event


class Sink(AbstractContextManager["Sink"]):
    """Takes events; leaving the block ends the display."""

    def __call__(self, event: Event) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.close()

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
