"""How minibuild's cost grows: files, layers, records, instructions, bytes, builds at once.

    benchmarks/scale.py [--tables files,layers,...] [--large] [--results FILE]

Each line is one size; `slope` is what one more unit costs in processor time between the line above and
this one, so a column of slopes that stays level means linear. Peak memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import contexts
from builders import minibuild_program
from measure import Cost, run


class Point(NamedTuple):
    """One measurement: `size` units, in mode `mode`."""

    size: int
    mode: str
    cost: Cost


class Bench:
    """A folder to work in, a base image and a store."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.layout = work / "base-layout"
        self._count = 0
        self.env = {**os.environ, "PYTHONPYCACHEPREFIX": str(work / "bytecode")}
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        base = work / "base"
        contexts.base(base / "root")
        contexts.dockerfile(base, "FROM scratch", "COPY root/ /", "ENV PATH=/bin")
        self.new_store()
        self.build(base, f"type=oci,tar=false,dest={self.layout}")

    def new_store(self) -> Path:
        """Begin with an empty store; what belongs to subordinate users stays until the end."""
        self._count += 1
        store = self.work / f"store-{self._count}"
        self.env["MINIBUILD_ROOT"] = str(store)
        return store

    def command(self, context: Path, output: str) -> tuple[str, ...]:
        named = f"base=oci-layout://{self.layout}"
        return (minibuild_program(), "build", "--build-context", named, "-o", output, str(context))

    def build(self, context: Path, output: str = "") -> Cost:
        output = output or f"type=oci,tar=false,dest={self.work / 'out'}"
        shutil.rmtree(self.work / "out", ignore_errors=True)
        return run(self.command(context, output), env=self.env, cwd=self.work, log=self.work / "log")

    def context(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def files(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """COPY of so many files of about 200 bytes."""
    for size in sizes:
        context = bench.context("files")
        contexts.dockerfile(context, "FROM base", "COPY data/ /data/")
        contexts.files(context / "data", size, 200, seed=3)
        time.sleep(2.1)
        bench.new_store()
        yield Point(size, "cold", bench.build(context))
        yield Point(size, "cached", bench.build(context))
        (context / "data/d0/e0/f7.txt").write_text("touched")
        yield Point(size, "touched", bench.build(context))


def layers(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """An image of so many layers, then a RUN on top of it."""
    for size in sizes:
        context = bench.context("layers")
        names = [f"f{number}" for number in range(size)]
        for name in names:
            (context / name).write_text(name)
        lines = ["FROM base", *(f"COPY {name} /" for name in names)]
        contexts.dockerfile(context, *lines)
        bench.new_store()
        yield Point(size, "cold", bench.build(context))
        yield Point(size, "cached", bench.build(context))
        contexts.dockerfile(context, *lines, "RUN echo > /made")
        yield Point(size, "RUN on top", bench.build(context))


def instructions(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """A Dockerfile of so many lines of one kind: what only describes, then steps with a layer each."""
    for line in (
        "LABEL label{0}=value",
        "ENV NAME{0}=value",
        "EXPOSE {0}",
        "COPY f{0} /made/",
        "WORKDIR /w{0}",
    ):
        kind = line.partition(" ")[0]
        for size in sizes:
            context = bench.context("instructions")
            for number in range(1, size + 1) if kind == "COPY" else ():
                (context / f"f{number}").write_text(f"file {number}")
            contexts.dockerfile(context, "FROM base", *(line.format(n) for n in range(1, size + 1)))
            time.sleep(2.1)
            bench.new_store()
            yield Point(size, f"{kind}, cold", bench.build(context))
            yield Point(size, f"{kind}, cached", bench.build(context))


def records(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """A cached build of 20 steps in a store of so many step records, and one lookup in it."""
    from minibuild_store.store import Store

    context = bench.context("records")
    contexts.sixty_steps(context, 1.0)
    store = bench.new_store()
    bench.build(context)
    made = 0
    for size in sizes:
        with Store.open(store) as opened:
            steps = opened.records("steps")
            for number in range(made, size):
                steps.put(_name(number), b"x" * 300)
            made = size
            begin, before = time.perf_counter(), time.process_time()
            for number in range(1000):
                steps.get(_name(number * 7919 % size))
            wall, cpu = time.perf_counter() - begin, time.process_time() - before
        yield Point(size, "build", min(bench.build(context) for _ in range(3)))
        yield Point(size, "1,000 lookups", Cost(wall, cpu, 0))


def changes(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """A RUN that writes so many files on a base of 10,000; then one that writes ten on a base of so many."""
    for mode, made, below in (("on 10,000", None, 10_000), ("ten on so many", 10, None)):
        for size in sizes:
            context = bench.context("changes")
            contexts.files(context / "data", below or size, 200, seed=4)
            lines = ["FROM base", "COPY data/ /data/", "RUN :"]
            contexts.dockerfile(context, *lines)
            time.sleep(2.1)
            bench.new_store()
            bench.build(context)  # unpacks what is below
            count = made or size
            script = f"i=0; while [ $i -lt {count} ]; do echo > /data/d0/e0/new$i; i=$((i+1)); done"
            contexts.dockerfile(context, *lines, f"RUN {script}")
            yield Point(size, mode, bench.build(context))


def _name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def sparse(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """COPY of one file of so many GiB that holds nothing."""
    for size in sizes:
        context = bench.context("sparse")
        contexts.dockerfile(context, "FROM base", "COPY big /")
        with (context / "big").open("wb") as file:
            file.truncate(size << 30)
        time.sleep(2.1)
        bench.new_store()
        yield Point(size, "cold", bench.build(context))
        yield Point(size, "cached", bench.build(context))


def builds(bench: Bench, sizes: list[int]) -> Iterator[Point]:
    """So many builds at once on one store, each with a context and ten RUNs of its own."""
    for size in sizes:
        bench.new_store()
        folders = []
        for number in range(size):
            context = bench.context(f"builds-{number}")
            contexts.dockerfile(context, "FROM base", *(f"RUN echo {number} {n} > /f{n}" for n in range(10)))
            folders.append(context)
        yield Point(size, "cold", _at_once(bench, folders))
        yield Point(size, "cached", _at_once(bench, folders))


def _at_once(bench: Bench, folders: list[Path]) -> Cost:
    """The wall time until the last has ended; processor time of all, peak of the largest."""
    begin = time.perf_counter()
    running = [
        subprocess.Popen(
            bench.command(folder, f"type=oci,dest={folder}/out.tar"),
            env=bench.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for folder in folders
    ]
    cpu, peak = 0.0, 0
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"a build ended with exit code {process.returncode}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
    return Cost(time.perf_counter() - begin, cpu, peak)


class Table(NamedTuple):
    """`large` sizes are measured only when asked for."""

    measure: Callable[[Bench, list[int]], Iterator[Point]]
    unit: str
    sizes: list[int]
    large: list[int]


TABLES = {
    "files": Table(files, "file", [1_000, 10_000, 100_000], [500_000]),
    "layers": Table(layers, "layer", [1, 50, 127, 400], []),
    "changes": Table(changes, "file", [10, 1_000, 10_000, 100_000], []),
    "records": Table(records, "record", [100, 10_000, 100_000], [1_000_000]),
    "instructions": Table(instructions, "instruction", [10, 100, 1_000], [4_000]),
    "sparse": Table(sparse, "GiB", [1], [10]),
    "builds": Table(builds, "build", [1, 4, 16], []),
}


def lines(name: str, points: Iterator[Point]) -> Iterator[str]:
    """The table of one measurement in Markdown, line by line as it comes."""
    table = TABLES[name]
    yield f"\n{(table.measure.__doc__ or '').strip()}\n"
    yield f"| {table.unit}s | | seconds | cpu | slope in µs | peak MB |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: |"
    before: dict[str, Point] = {}
    for point in points:
        last, cost, slope = before.get(point.mode), point.cost, ""
        if last is not None:
            slope = f"{(cost.cpu - last.cost.cpu) / (point.size - last.size) * 1e6:,.1f}"
        before[point.mode] = point
        peak = f"{cost.peak_kib >> 10}" if cost.peak_kib else ""
        yield f"| {point.size:,} | {point.mode} | {cost.wall:.3f} | {cost.cpu:.3f} | {slope} | {peak} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", type=lambda text: text.split(","), default=list(TABLES))
    parser.add_argument("--large", action="store_true", help="the largest sizes too, which takes long")
    parser.add_argument("--temp", help="where to work; as the stores are put there, on a real disk")
    parser.add_argument("--results", help="append the tables to this file")
    options = parser.parse_args()
    unknown = set(options.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {sorted(unknown)[0]}; there are {', '.join(TABLES)}")
    work = Path(tempfile.mkdtemp(prefix="minibuild-scale-", dir=options.temp))
    try:
        bench = Bench(work)
        for name in options.tables:
            table = TABLES[name]
            sizes = table.sizes + (table.large if options.large else [])
            for line in lines(name, table.measure(bench, sizes)):
                print(line, flush=True)
                if options.results:
                    with open(options.results, "a") as file:
                        file.write(line + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
