"""What one more RUN costs, over the command itself.

    benchmarks/run_cost.py [--isolation NAME,...] [--runs 10] [--temp FOLDER]...

Builds of 1, 21 and 41 different `RUN :`, each from an empty store, in turn. The wall time of a step is that
from its start to the start of the next, of all steps but the first of each build; its processor time is the
slope from the fewest steps to the most, so that starting, the base and the export fall out. Beside it the
command itself, by plain fork and exec, and what util-linux needs to make namespaces. Run it as each kind of
user; stores are made in each FOLDER, so that a tmpfs and a disk can be compared. On a busy machine only the
least tells something of the wall time, and the processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import contexts
from builders import minibuild_program
from measure import Cost, Failed, run

SIZES = (1, 21, 41)
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", *(("--map-root-user",) if os.geteuid() else ()), "true")
_AT_ONCE = 50  # of the plain commands, as one is too short to be timed


class Step(NamedTuple):
    """Milliseconds of one: least and median wall time, least processor time."""

    least: float
    middle: float
    cpu: float


class Bench:
    """A folder to work in, with a base image of busybox."""

    def __init__(self, work: Path, isolation: str) -> None:
        self.work = work
        self.base = work / "base/root"
        self._isolation = isolation
        self._layout = work / "layout"
        self.log = work / "log"
        contexts.base(self.base)
        contexts.dockerfile(work / "base", "FROM scratch", "COPY root/ /", "ENV PATH=/bin")
        self._build(work / "base", self._layout)
        for size in SIZES:
            contexts.dockerfile(work / str(size), "FROM base", *(f"RUN : {number}" for number in range(size)))

    def build(self, size: int) -> Cost:
        """A build of so many steps from an empty store."""
        return self._build(self.work / str(size), self.work / "out")

    def _build(self, context: Path, layout: Path) -> Cost:
        program = minibuild_program()
        store = self.work / "store"
        env = {**os.environ, "MINIBUILD_ROOT": str(store), "PYTHONPYCACHEPREFIX": str(self.work / "bytecode")}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        named = f"base=oci-layout://{self._layout}"
        output = f"type=oci,tar=false,dest={layout}"
        command = [program, "build", "--progress=rawjson", "--isolation", self._isolation]
        command += ["--build-context", named, "-o", output]
        try:
            return run([*command, str(context)], env=env, cwd=self.work, log=self.log)
        finally:
            if store.exists():  # of which an ordinary user may remove only a part
                run([program, "cache", "prune", "--all"], env=env, cwd=self.work, log=self.work / "pruned")
                shutil.rmtree(store, ignore_errors=True)
            shutil.rmtree(self.work / "out", ignore_errors=True)


def build_steps(bench: Bench, runs: int) -> tuple[Step, str]:
    """One step's cost, and the seconds that the builds took at least."""
    costs: dict[int, list[Cost]] = {size: [] for size in SIZES}
    walls: list[float] = []
    bench.build(1)
    for _ in range(runs):
        for size in SIZES:
            costs[size].append(bench.build(size))
            walls += _steps(bench.log)
    cpu = {size: min(cost.cpu for cost in found) for size, found in costs.items()}
    slope = (cpu[SIZES[-1]] - cpu[SIZES[0]]) / (SIZES[-1] - SIZES[0])
    step = Step(min(walls) * 1e3, median(walls) * 1e3, slope * 1e3)
    return step, " / ".join(f"{min(cost.wall for cost in costs[size]):.3f}" for size in SIZES)


def _steps(log: Path) -> list[float]:
    """Seconds from the start of each RUN but the first to the start of the next, by a build's events."""
    events = map(json.loads, log.read_text().splitlines())
    started = [
        event["time"] for event in events if event["event"] == "StepStarted" and "RUN" in event["name"]
    ]
    return [after - before for before, after in pairwise(started[1:])]


def plain(command: tuple[str, ...], runs: int) -> Step:
    """One run of a command, by fork and exec from a small process."""
    walls, cpus = [], []
    for _ in range(runs):
        for _ in range(_AT_ONCE):
            start = time.perf_counter()
            pid = os.posix_spawnp(command[0], command, os.environ)
            _, status, usage = os.wait4(pid, 0)
            walls.append(time.perf_counter() - start)
            cpus.append(usage.ru_utime + usage.ru_stime)
            if status:
                raise Failed(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return Step(min(walls) * 1e3, median(walls) * 1e3, sum(cpus) / len(cpus) * 1e3)


def lines(folder: Path, isolations: Sequence[str], runs: int) -> list[str]:
    """The table's lines for one folder."""
    found = []
    for isolation in isolations:
        work = Path(tempfile.mkdtemp(prefix="run-cost-", dir=folder))
        try:
            bench = Bench(work, isolation)
            step, whole = build_steps(bench, runs)
            command = plain((str(bench.base / "bin/busybox"), "sh", "-c", ":"), runs)
            over = step.middle - command.middle
            found.append(_line(f"{isolation}, {_filesystem(work)}", step, f"{over:.1f} | {whole}"))
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return [
        *found,
        _line("the command itself", command, " | "),
        _line(" ".join(_UNSHARE), plain(_UNSHARE, runs), " | "),
    ]


def _line(what: str, step: Step, rest: str) -> str:
    return f"| {what} | {step.least:.1f} | {step.middle:.1f} | {step.cpu:.1f} | {rest} |"


def _filesystem(folder: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = "root,chroot" if os.geteuid() == 0 else "userns,single-id"
    parser.add_argument("--isolation", default=names, help=f"modes to measure, {names} unless told")
    parser.add_argument("--runs", type=int, default=10, help="how often each build is repeated")
    parser.add_argument("--temp", action="append", type=Path, help="where to work, may be repeated")
    options = parser.parse_args()
    print("| one step, ms | least | median | processor | over the command | builds of 1 / 21 / 41, s |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for folder in options.temp or [Path(tempfile.gettempdir())]:
        for line in lines(folder, options.isolation.split(","), options.runs):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
