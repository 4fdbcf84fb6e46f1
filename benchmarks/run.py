"""minibuild beside whichever of buildctl (BUILDKIT_HOST) and buildah is installed, in one run.

    benchmarks/run.py [--runs N] [--lines cached,files,...] [--builders minibuild,buildctl,...]
                      [--scale 0.1] [--prune] [--compression gzip] [--json FILE] [--results FILE]

Every builder builds every context cold, cached and with one file touched, in turns, and writes an OCI
layout each time; every result is compared, file by file, with the first. Times are whole processes.
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
from collections import defaultdict
from pathlib import Path

import contexts
from builders import BUILDERS, Buildctl, Builder, installed, minibuild_program
from lines import LINES, Line, touch
from measure import Cost, Failed, run, summary
from report import Row, markdown, table

_SETTLED = 2.1  # seconds after which a file's time is proof of its content for every builder


def main() -> int:
    options = _options()
    Buildctl.prune = options.prune
    Builder.compression = options.compression
    # buildah takes a folder's name apart as if it were an image's: no odd characters
    work = Path(options.temp or tempfile.gettempdir(), f"minibuild-benchmark-{os.getpid()}")
    work.mkdir(mode=0o700)
    try:
        base = _base_layout(work)
        names = [name for name in options.builders if installed(name)]
        builders = [kind(work, base) for kind in BUILDERS if kind.name in names]
        versions = {builder.name: builder.version() for builder in builders}
        rows: list[Row] = []
        for line in LINES:
            if line.name in options.lines:
                print(f"{line.name}: {line.title}", file=sys.stderr)
                rows += _measure(line, builders, work, options)
                _write(rows, versions, options)
        for builder in builders:
            builder.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(rows))
    return 1 if any(row.different for row in rows) else 0


def _write(rows: list[Row], versions: dict[str, str], options: argparse.Namespace) -> None:
    """Write down what is known so far: a run that is stopped has not been for nothing."""
    if options.results:
        shown = ["benchmarks/run.py", *_shown(sys.argv[1:])]
        Path(options.results).write_text(markdown(rows, " ".join(shown), versions, options))
    if options.json:
        Path(options.json).write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")


def _options() -> argparse.Namespace:
    every = [line.name for line in LINES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind; the median counts (5)")
    parser.add_argument("--lines", type=_words, default=every, help=f"some of {','.join(every)}")
    parser.add_argument("--builders", type=_words, default=[kind.name for kind in BUILDERS])
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the files' number and size")
    parser.add_argument("--prune", action="store_true", help="empty the BuildKit daemon's whole cache")
    parser.add_argument(
        "--compression", choices=("gzip", "zstd"), help="of new layers, not each one's default"
    )
    parser.add_argument("--temp", help="where to work; as the stores are put there, on a real disk")
    parser.add_argument("--json", help="write every figure to this file")
    parser.add_argument("--results", help="write the table to this file (RESULTS.md, for all lines)")
    options = parser.parse_args()
    if options.results is None and options.lines == every:
        options.results = str(Path(__file__).with_name("RESULTS.md"))
    unknown = set(options.lines) - set(every)
    if unknown:
        parser.error(f"no line {sorted(unknown)[0]}; there are {', '.join(every)}")
    return options


def _words(text: str) -> list[str]:
    return text.split(",")


def _shown(arguments: list[str]) -> list[str]:
    """The arguments without the places of this machine."""
    return [word for word in arguments if "/" not in word and word not in ("--temp", "--json", "--results")]


def _base_layout(work: Path) -> Path:
    """The base image, built by minibuild from busybox."""
    context = work / "base"
    contexts.base(context / "root")
    contexts.dockerfile(context, "FROM scratch", "COPY root/ /", "ENV PATH=/bin")
    layout = work / "base-layout"
    output = f"type=oci,tar=false,compression=gzip,force-compression=true,dest={layout}"
    command = (minibuild_program(), "build", "-o", output, str(context))
    env = {**os.environ, "MINIBUILD_ROOT": str(work / "base-store")}
    run(command, env=env, cwd=work, log=work / "base-log")
    return layout


def _measure(line: Line, builders: list[Builder], work: Path, options: argparse.Namespace) -> list[Row]:
    context = work / line.name
    context.mkdir()
    touched = line.make(context, options.scale)
    costs: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    different, layout = "", work / "out"
    for turn in range(options.runs):
        for builder in builders:
            for mode in line.modes:
                if mode == "cold":
                    if touched is not None:
                        touch(touched, 0)
                    time.sleep(_SETTLED)
                    builder.forget()
                elif mode == "touched" and touched is not None:
                    touch(touched, turn + 1)
                shutil.rmtree(layout, ignore_errors=True)
                layout.mkdir()
                costs[mode, builder.name].append(_built(builder, context, layout))
                # what a cached build gives is what the cold one gave
                content = f"touched-{turn}" if mode == "touched" else "cold"
                said = _compared(layout, work / f"{line.name}-{content}.json")
                different += f"{builder.name}, {mode}: {said}; " if said else ""
    for mode, command in line.floors.items():
        for _ in range(min(options.runs, 3)):
            costs[mode, "floor"].append(_floor(command, context, layout))
    shutil.rmtree(context)
    return [
        Row(
            line.name,
            line.title,
            mode,
            line.aims.get(mode),
            different,
            {name: summary(found) for (of, name), found in costs.items() if of == mode},
        )
        for mode in line.modes
    ]


def _built(builder: Builder, context: Path, layout: Path) -> Cost:
    cost = builder.build(context, layout)
    print(f"  {builder.name} {cost.wall:.3f}s cpu {cost.cpu:.3f}s {cost.peak_kib >> 10} MB", file=sys.stderr)
    return cost


def _compared(layout: Path, first: Path) -> str:
    """How the image in `layout` differs from the first builder's, "" where it does not."""
    program = Path(__file__).with_name("layouts.py")
    command = (sys.executable, str(program), str(layout), str(first))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _floor(command: str, context: Path, out: Path) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    env = {**os.environ, "context": str(context), "out": str(out)}
    return run(("bash", "-c", command), env=env, cwd=out, log=out / "log")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (Failed, contexts.NoBase) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None
