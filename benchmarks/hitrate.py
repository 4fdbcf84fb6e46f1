"""Hit rates over made-up histories, by `minibuild lab synth` and `minibuild lab replay`.

    benchmarks/hitrate.py [--seeds N] [--commits N] [--files N] [--results FILE]

Costs are those of the model that docs/lab.md states, whatever was built here before; no registry is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from builders import minibuild_program

MARK = "## Hit rates over made-up histories"


class Case(NamedTuple):
    """One comparison: what it is called, and the options that say what is compared."""

    title: str
    options: tuple[str, ...]


_SPLIT = ("-f", "Dockerfile.split", "--without-git")
_CAPS = ("--policy", "none", "--policy", "lru", "--policy", "value", "--size", "500MB")
CASES = (
    Case("a clone, with .git", ("-f", "Dockerfile", "-f", "Dockerfile.split")),
    Case("without .git", ("-f", "Dockerfile", "-f", "Dockerfile.split", "--without-git")),
    Case("fresh machines", (*_SPLIT, "--cache", "local", "--cache", "registry")),
    Case("a cap of 500 MB", (*_SPLIT, *_CAPS)),
)


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="minibuild-hitrate-") as folder:
        work = Path(folder)
        lines = list(_rows(work, options))
    text = "\n".join([*_head(options), *lines, ""])
    print(text)
    if options.results:
        path = Path(options.results)
        before = path.read_text().partition(MARK)[0].rstrip() if path.exists() else ""
        path.write_text(f"{before}\n\n{text}" if before else text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2, help="histories (2)")
    parser.add_argument("--commits", type=int, default=1000, help="commits of each (1000)")
    parser.add_argument("--files", type=int, default=5000, help="files of each at first (5000)")
    parser.add_argument("--results", help="file whose section of this name is written anew, at its end")
    return parser.parse_args()


def _head(options: argparse.Namespace) -> list[str]:
    words = f"--seeds {options.seeds} --commits {options.commits} --files {options.files}"
    return [
        MARK,
        "",
        f"Made by `benchmarks/hitrate.py {words}`: histories of `minibuild lab synth`,",
        "replayed by keys alone; costs by the model `default-1` (docs/lab.md). `Dockerfile` copies all files",
        "before it installs the requirements; `Dockerfile.split` copies the requirements first, then",
        "what the image needs. Ranges are 95 % intervals over commits.",
        "",
        "| history | what | variant | hit rate | spent a build | saved a build | replayed in |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]


def _rows(work: Path, options: argparse.Namespace) -> list[str]:
    rows: list[str] = []
    for seed in range(1, options.seeds + 1):
        git = work / f"history{seed}"
        sizes = ("--commits", str(options.commits), "--files", str(options.files))
        _run(work, "synth", "--git", str(git), "--seed", str(seed), *sizes)
        for case in CASES:
            print(f"seed {seed}: {case.title}", file=sys.stderr)
            output = _run(work, "replay", "--git", str(git), "--offline", "--format", "json", *case.options)
            rows += _lines(seed, case, json.loads(output))
    return rows


def _lines(seed: int, case: Case, document: dict[str, Any]) -> list[str]:
    found = []
    for number, variant in enumerate(document["variants"]):
        one = variant["summary"]
        seconds = f"{document['seconds']:.1f} s" if not number else ""
        found.append(
            f"| seed {seed} | {case.title} | {variant['name']} | {_interval(one['rate'], 100, ' %')} "
            f"| {_interval(one['spent'], 1, ' s')} | {_interval(one['saved'], 1, ' s')} | {seconds} |"
        )
    return found


def _interval(interval: dict[str, float], factor: float, unit: str) -> str:
    value, low, high = (f"{factor * interval[key]:.1f}" for key in ("value", "low", "high"))
    return f"{value}{unit} ({low}–{high})"


def _run(work: Path, *arguments: str) -> str:
    command = [minibuild_program(), "lab", *arguments]
    environment = {**os.environ, "MINIBUILD_ROOT": str(work / "store")}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


if __name__ == "__main__":
    raise SystemExit(main())
