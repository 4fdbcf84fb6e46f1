"""When to try again: exponential backoff with jitter, and what ``Retry-After`` wants (RFC 9110, 10.2.3)."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.registry.options import RegistryOptions


class Backoff:
    """Counts the tries of one request. `wait` sleeps some seconds and may raise to give up."""

    def __init__(self, options: RegistryOptions, wait: Callable[[float], None]) -> None:
        self._options = options
        self._wait = wait
        self.tries = 1

    @property
    def exhausted(self) -> bool:
        """Whether no further try is allowed."""
        return self.tries >= self._options.attempts

    def again(self, retry_after: str = "", date: str = "") -> bool:
        """Wait and return True if another try is due; `retry_after` and `date` are headers of the answer."""
        if self.exhausted:
            return False
        asked = parse_retry_after(retry_after, date)
        if asked is not None:
            delay = min(asked, self._options.max_retry_after)
        else:
            delay = self._delay()
        self.tries += 1
        self._wait(delay)
        return True

    def progressed(self) -> None:
        """Something was achieved: count the tries from one again."""
        self.tries = 1

    def _delay(self) -> float:
        import random

        full: float = min(self._options.backoff * 2 ** (self.tries - 1), self._options.max_backoff)
        return full * (0.5 + random.random() / 2)


def parse_retry_after(text: str, date: str = "") -> float | None:
    """Seconds to wait; a point in time counts from the answer's own `date`, so no clock is needed."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text or not date:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError):
        return None
