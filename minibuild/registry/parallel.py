"""Several transfers at once: bounded, and the first fault stops the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from minibuild_store import stopping

from minibuild.errors import Cancelled
from minibuild.threads import join, start

Job = Callable[[threading.Event], None]
"""One transfer; it looks at the event between pieces and raises `Cancelled` once it is set."""


def run_all(jobs: Sequence[Job], limit: int) -> None:
    """Run every job on at most `limit` threads; the first error is raised after all threads have ended.

    `stopping.check` raises in the others meanwhile, so that they end soon, whatever they wait for.
    """
    stop = threading.Event()
    if len(jobs) <= 1 or limit <= 1:
        for job in jobs:
            job(stop)
        return
    pending = iter(jobs)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            with lock:
                job = next(pending, None)
            if job is None:
                return
            try:
                with stopping.checking_also(lambda: raise_if(stop)):
                    job(stop)
            except BaseException as error:  # carried to the caller's thread
                with lock:
                    errors.append(error)
                stop.set()

    threads = [
        threading.Thread(target=stopping.carried(work), name="transfer", daemon=True)
        for _ in range(min(limit, len(jobs)))
    ]
    try:
        start(*threads)
        join(threads)
    except BaseException:  # an interrupt of the waiting thread, or a thread that cannot be had
        stop.set()
        join(threads)
        raise
    if errors:
        raise next((error for error in errors if not isinstance(error, Cancelled)), errors[0])


def stop_if(stop: threading.Event) -> None:
    """Raise `Cancelled` once `stop` is set, or what `stopping.check` raises."""
    stopping.check()
    raise_if(stop)


def raise_if(stop: threading.Event) -> None:
    """Raise `Cancelled` once `stop` is set."""
    if stop.is_set():
        raise Cancelled
