"""The figures as a table, and as a page with what is needed to make them again."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from measure import Summary


class Row(NamedTuple):
    """One line of the table; `costs` by builder and of the "floor"; `different` says where results differ."""

    line: str
    title: str
    mode: str
    aim: float | None
    different: str
    costs: dict[str, Summary]


_HEADINGS = {"buildctl": "BuildKit", "buildah": "buildah"}


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table with its heading: seconds, and in how many times ours the peers need."""
    peers = [name for name in _HEADINGS if any(name in row.costs for row in rows)]
    found = [["work", "", "aim", "minibuild", "cpu", "peak MB", "floor", *(_HEADINGS[p] for p in peers)]]
    for row in rows:
        ours = row.costs.get("minibuild")
        line = [row.title, row.mode, f"{row.aim:.2f}" if row.aim else ""]
        if ours is None:
            line += ["", "", ""]
        else:
            line += [f"{ours.wall:.2f}", f"{ours.cpu:.2f}", str(ours.peak_kib >> 10)]
        floor = row.costs.get("floor")
        line.append(_floor(floor, ours))
        for peer in peers:
            theirs = row.costs.get(peer)
            ratio = f" ({theirs.wall / ours.wall:.1f}x)" if theirs and ours else ""
            line.append(f"{theirs.wall:.2f}{ratio}" if theirs else "")
        found.append(line)
    return found


def _floor(floor: Summary | None, ours: Summary | None) -> str:
    """Seconds, and in how many times as long minibuild took: the distance to the limit."""
    if floor is None:
        return ""
    return f"{floor.wall:.2f}" + (f" ({ours.wall / floor.wall:.1f}x)" if ours else "")


def table(rows: Sequence[Row]) -> str:
    """For a terminal."""
    lines = cells(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    text = "\n".join("  ".join(line).rstrip() for line in padded)
    faults = "\n".join(sorted({f"DIFFERENT {row.line}: {row.different}" for row in rows if row.different}))
    return f"{text}\n{faults}" if faults else text


def markdown(
    rows: Sequence[Row], command: str, versions: Mapping[str, str], options: argparse.Namespace
) -> str:
    """The page `RESULTS.md`."""
    lines = cells(rows)
    marks = ["---", "---", *["---:"] * (len(lines[0]) - 2)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], marks, *lines[1:]])
    counts = sorted({row.costs["minibuild"].runs for row in rows if "minibuild" in row.costs})
    agreed = not any(row.different for row in rows)
    peers = len({name for row in rows for name in row.costs} - {"floor"}) > 1
    check = ""
    if peers:
        check = (
            "Every image was compared: cold, cached and touched, all\nbuilders' held the same files."
            if agreed
            else "**The builders' images differ.**"
        )
    scaled = f" The contexts were scaled by {options.scale}." if options.scale != 1 else ""
    packed = "as each\nbuilder does by itself: minibuild with zstd, BuildKit with gzip"
    if options.compression:
        packed = f"with\n{options.compression} by minibuild and BuildKit"
    return f"""# Benchmark results

Made by `{command}`: seconds for the whole process, an OCI layout written each time, medians of
{", ".join(map(str, counts))} alternating runs.{scaled} In brackets, how many times as long as minibuild;
at the floor, how many times as long minibuild took.
*cpu* is the least processor time (user and system, all processes) that minibuild needed, *peak* the
resident memory of its largest process; BuildKit's daemon was warm, and its own are not shown.
*floor* is what plain tools need: `find -printf` over the context for the check of a cached build; one pass
of `tar | zstd | sha256sum` (twice) over the files of all new layers; twenty `unshare true` for the RUNs,
`sleep 1` for the stages. With one file touched the pass is over what has to be written anew: `src/` of the
7 instructions, ten files of the 60 steps, but the whole context of the 20,000 files, as one COPY takes
them all. New layers are compressed {packed},
not at all by buildah. {check}

{body}

{_machine()}

{"; ".join(f"{name} {_short(name, text)}" for name, text in versions.items())}.
"""


def _short(name: str, text: str) -> str:
    words = [word for word in text.split() if any(character.isdigit() for character in word)]
    return words[0] if words else text.removeprefix(name).strip()


def _machine() -> str:
    """What the figures depend on; nothing that names the machine."""
    version = ".".join(map(str, sys.version_info[:3]))
    model = next(iter(_values("/proc/cpuinfo", "model name")), platform.machine())
    memory = next(iter(_values("/proc/meminfo", "MemTotal")), "")
    gib = f", {int(memory.split()[0]) / (1 << 20):.0f} GiB" if memory else ""
    return (
        f"{os.cpu_count()} processors ({model}){gib}, Linux {platform.release().partition('-')[0]},"
        f" Python {version}; load average at the end {os.getloadavg()[0]:.1f}."
    )


def _values(path: str, key: str) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
