"""The lines of the table: what is built, what is asked, and the floor that the plain tools set.

A floor is the least that has to be done, by plain tools: for a cached build one look at every file of the
context, for layers one pass over the files of all of them, for commands the commands. Where one file was
touched it is a pass over what has to be written anew: all that its COPY copies, and the COPYs below it. Of
`files` that is the whole context, as it has one COPY: the floor of touched is that of cold.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import contexts
from contexts import Maker


class Line(NamedTuple):
    """`aims` are seconds by mode; `floors` shell commands by mode, which know $context and $out."""

    name: str
    title: str
    make: Maker
    aims: dict[str, float]
    floors: dict[str, str]
    modes: tuple[str, ...] = ("cold", "cached")


def _pack(paths: str) -> str:
    """One pass of the plain tools: the tar stream hashed, compressed, hashed again and written."""
    return (
        f'cd "$context" && tar -c {paths} | tee >(sha256sum > /dev/null)'
        ' | zstd -q -3 | tee "$out/layer" | sha256sum > /dev/null'
    )


_WALK = "find \"$context\" -printf '%p %m %s %T@ %C@ %i\\n' > /dev/null"
_PACK = _pack(".")
_UNSHARE = "unshare --mount --pid --fork --mount-proc" + ("" if os.geteuid() == 0 else " --map-root-user")
_RUNS = f"for number in $(seq 20); do {_UNSHARE} true; done"

_TOUCHED = ("cold", "cached", "touched")

LINES = (
    Line(
        "cached", "7 instructions, 2,000 files", contexts.cached_seven,
        {"cached": 0.10}, {"cold": _PACK, "cached": _WALK, "touched": _pack("src")}, _TOUCHED,
    ),
    Line(
        "files", "COPY of 20,000 files, 173 MB", contexts.small_files,
        {"cold": 0.8, "cached": 0.20}, {"cold": _PACK, "cached": _WALK, "touched": _PACK}, _TOUCHED,
    ),
    Line(
        "big", "COPY of one 1 GiB file", contexts.one_big_file,
        {"cold": 2.5, "cached": 0.12}, {"cold": _PACK, "cached": _WALK},
    ),
    Line(
        "runs", "20 RUNs of nothing", contexts.twenty_runs,
        {"cold": 0.35}, {"cold": _RUNS, "cached": _WALK},
    ),
    Line(
        "steps", "60 tiny steps, 20 of them COPY", contexts.sixty_steps,
        {"cold": 0.20}, {"cold": _PACK, "cached": _WALK, "touched": _pack("tiny/1?.txt")}, _TOUCHED,
    ),
    Line(
        "stages", "8 parallel stages of sleep 1", contexts.eight_stages,
        {"cold": 1.2}, {"cold": "sleep 1", "cached": _WALK},
    ),
)  # fmt: skip


def touch(path: Path, count: int) -> None:
    """Change one byte or so of the file, differently each time."""
    with path.open("r+b") as file:
        file.write(b"%08d" % count)
