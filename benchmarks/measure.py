"""One process, timed: wall clock, processor time and peak memory of it and of what it waited for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of wall time, seconds of processor time (user and system), peak resident KiB.

    Processor time and memory are those of the process and its descendants (wait4(2)); the memory is
    that of the largest one among them. A daemon's are not in it.
    """

    wall: float
    cpu: float
    peak_kib: int


class Failed(Exception):
    """A command that was to be timed did not end well; holds the end of what it said."""


def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Cost:
    """Run `command` to its end and say what it took; raises `Failed`."""
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env), cwd=cwd
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_bytes()[-2000:].decode("utf-8", "replace")
        raise Failed(f"{' '.join(command)}: exit code {process.returncode}\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


class Summary(NamedTuple):
    """Several runs of one thing: medians, the quickest, the least processor time, the highest peak."""

    wall: float
    best: float
    cpu: float
    peak_kib: int
    runs: int


def summary(costs: Sequence[Cost]) -> Summary:
    return Summary(
        median(cost.wall for cost in costs),
        min(cost.wall for cost in costs),
        min(cost.cpu for cost in costs),
        max(cost.peak_kib for cost in costs),
        len(costs),
    )
