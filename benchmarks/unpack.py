"""What it takes to unpack a base image of 8,700 files, beside plain tar and the peers installed here.

    benchmarks/unpack.py [--runs N] [--prune] [--temp DIR] [--results FILE]

For builders it is the first `RUN` on a base that they know, less the second one, which finds it unpacked; for
the other programs it is the one command. Builders also keep and check digests on the way, tar does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import contexts
from builders import Buildctl, Builder, Minibuild, installed
from layouts import manifest_digest
from measure import Cost, run, summary

FILES = 8_700
SIZE = 10_000
PACKERS = {"gzip": "-z", "zstd": "--zstd"}


class Base(NamedTuple):
    """An image in an OCI layout, and its layer that holds the files."""

    layout: Path
    compression: str

    @property
    def layer(self) -> Path:
        """The largest blob."""
        return max((self.layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def make_base(work: Path, compression: str) -> Base:
    """Busybox with `FILES` files beside it."""
    context, layout = work / "base", work / f"base-{compression}"
    if not context.exists():
        contexts.base(context / "root")
        contexts.files(context / "root/data", FILES, SIZE, seed=5)
        contexts.dockerfile(context, "FROM scratch", "COPY root/ /", "ENV PATH=/bin")
    maker = Minibuild(_folder(work, "maker"), layout)
    output = f"type=oci,tar=false,dest={layout},compression={compression}"
    command = (maker.program(), "build", "-q", "-o", output, str(context))
    run(command, env=maker.env, cwd=work, log=work / "log")
    return Base(layout, compression)


def _folder(work: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=work))


def by_command(work: Path, command: Callable[[Path], tuple[str, ...]]) -> Cost:
    """A command that unpacks into a new folder."""
    target = work / "unpacked"
    target.mkdir()
    try:
        return run(command(target), env=os.environ, cwd=work, log=work / "log")
    finally:
        shutil.rmtree(target)


def by_builder(work: Path, builder: Builder) -> Cost:
    """The first RUN on a base that is known and not unpacked, less the second."""
    context = _folder(work, "context")
    builder.forget()
    costs = []
    for line in ("ENV known=1", "RUN : first", "RUN : second"):
        contexts.dockerfile(context, "FROM base", line)
        dest = context / "image"
        costs.append(builder.build(context, dest))
        shutil.rmtree(dest)
    _, first, second = costs
    return Cost(first.wall - second.wall, first.cpu - second.cpu, first.peak_kib)


def contenders(work: Path, base: Base, *, prune: bool) -> Iterator[tuple[str, Callable[[], Cost]]]:
    """What is measured: a name, and how to do it once."""
    packed = str(base.layer)
    yield (
        f"tar {PACKERS[base.compression]}",
        lambda: by_command(work, lambda to: ("tar", PACKERS[base.compression], "-xf", packed, "-C", str(to))),
    )
    ours = Minibuild(_folder(work, "minibuild"), base.layout)
    yield "minibuild", lambda: by_builder(work, ours)
    if installed("buildctl") and prune:  # one that knows the base already would not unpack it again
        theirs = Buildctl(_folder(work, "buildctl"), base.layout)
        theirs.prune = True
        yield "BuildKit (with the copy into its store)", lambda: by_builder(work, theirs)
    if shutil.which("umoci") and os.geteuid() == 0 and base.compression == "gzip":  # all that it knows
        image = f"{_named(work, base)}:latest"
        yield (
            "umoci unpack",
            lambda: by_command(work, lambda to: ("umoci", "unpack", "--image", image, str(to / "bundle"))),
        )


def _named(work: Path, base: Base) -> Path:
    """The layout with the tag that umoci asks for."""
    copy = work / f"named-{base.compression}"
    if not copy.exists():
        shutil.copytree(base.layout, copy)
        digest = manifest_digest(copy)
        index = (copy / "index.json").read_text()
        if "org.opencontainers.image.ref.name" not in index:
            note = '"annotations":{"org.opencontainers.image.ref.name":"latest"},'
            (copy / "index.json").write_text(index.replace('{"mediaType"', "{" + note + '"mediaType"', 1))
            assert manifest_digest(copy) == digest
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prune", action="store_true", help="empty BuildKit's cache, to measure it too")
    parser.add_argument("--temp", help="where to work; as the stores are put there, on a real disk")
    parser.add_argument("--results", help="append the table to this file")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="minibuild-unpack-", dir=options.temp))
    try:
        lines = ["| layer | by | seconds | cpu | peak MB |", "| --- | --- | ---: | ---: | ---: |"]
        for compression in PACKERS:
            base = make_base(work, compression)
            ways = dict(contenders(work, base, prune=options.prune))
            costs: dict[str, list[Cost]] = {name: [] for name in ways}
            for _ in range(options.runs):
                for name, way in ways.items():
                    costs[name].append(way())
            for name, found in costs.items():
                wall, best, cpu, peak, _ = summary(found)
                size = f"{compression}, {base.layer.stat().st_size / 1e6:.0f} MB"
                lines.append(f"| {size} | {name} | {wall:.2f} ({best:.2f}) | {cpu:.2f} | {peak >> 10} |")
        text = "\n".join(lines) + "\n"
        print(text)
        if options.results:
            with open(options.results, "a") as file:
                file.write(text)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
