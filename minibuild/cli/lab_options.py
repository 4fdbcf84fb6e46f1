"""The options of ``lab``, as its commands share them."""

from __future__ import annotations

from typing import Annotated

import typer

Texts = list[str] | None

Git = Annotated[str, typer.Option("--git", help="Repository (default: the one here).")]
Trace = Annotated[str, typer.Option("--trace", help="A trace written by lab synth, in place of --git.")]
Range = Annotated[str, typer.Option("--range", help="A..B, by first parents (default: all of HEAD).")]
Last = Annotated[int, typer.Option("--last", help="Only the last so many commits; 0 for all.", min=0)]
Context = Annotated[str, typer.Option("--context", help="The context: a folder of the repository.")]
Target = Annotated[str, typer.Option("--target", help="Stage to build.")]
Args = Annotated[Texts, typer.Option("--build-arg", help="NAME=VALUE for an ARG.")]
Contexts = Annotated[Texts, typer.Option("--build-context", help="NAME=FOLDER or image, as for build.")]
Platform = Annotated[str, typer.Option("--platform", help="As for build.")]
NoGit = Annotated[bool, typer.Option("--without-git", help="Contexts have no .git, as in archives.")]
Costs = Annotated[str, typer.Option("--costs", help="Seconds and bytes of instructions: JSON or CSV.")]
Offline = Annotated[bool, typer.Option("--offline", help="Ask no registry for bases.")]
Format = Annotated[str, typer.Option("--format", help="table, json, csv or html.")]
Output = Annotated[str, typer.Option("-o", "--output", help="File to write (default: standard output).")]
Rate = Annotated[str, typer.Option("--pull-rate", help="Bytes a second from a shared cache.")]
Warmup = Annotated[int, typer.Option("--warmup", help="Commits at the beginning that do not count.", min=0)]
Files = Annotated[
    Texts, typer.Option("-f", "--file", help="Dockerfile: PATH, REV:PATH or a file on disk; may repeat.")
]
Ignores = Annotated[Texts, typer.Option("--ignorefile", help="In place of .dockerignore; may repeat.")]
Policies = Annotated[Texts, typer.Option("--policy", help="none, lru or value; may repeat.")]
Sizes = Annotated[Texts, typer.Option("--size", help="The most that may stay, as 5GB; may repeat.")]
Caches = Annotated[
    Texts, typer.Option("--cache", help="local, or registry: a fresh machine each time; may repeat.")
]
Execute = Annotated[
    bool, typer.Option("--execute", help="Build each commit for real, on a store of its own.")
]
Commits = Annotated[bool, typer.Option("--commits", help="Also a line for each commit.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the resampling behind intervals.")]
