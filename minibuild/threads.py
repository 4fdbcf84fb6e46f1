"""Threads that may not be had: a limit on processes counts them as well."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable

from minibuild.errors import SandboxError


def start(*threads: threading.Thread) -> None:
    """Start them, or as many as may be; raises `SandboxError` where one cannot be started."""
    for thread in threads:
        try:
            thread.start()
        except RuntimeError as error:
            from minibuild.refusals import CURES

            cure = CURES[errno.EAGAIN]
            raise SandboxError(f"another thread was needed: {error}", cure=cure) from None


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for those of `threads` that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
