"""Builds and collections on one store at once, some of them killed: nothing may fail, be lost or pile up.

    python -m tests.cache.stress --minutes 5 [--builders 16]

Each builder changes its project, builds it and compares what comes out; one build in ten is killed on its
way. Meanwhile the store is collected without a pause.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.differential.bases import make_bases
from tests.feature.project import Project

DOCKERFILE = """
FROM busybox AS common
RUN --mount=type=cache,target=/c,sharing={sharing} echo x >> /c/log; head -c 100000 /dev/urandom > /noise
FROM busybox AS work
COPY shared /shared
COPY own /own
RUN --mount=type=cache,target=/c,id={number} cat /shared/s /own/f > /both && cp /both /c/both
FROM busybox
COPY --from=common /noise /noise
COPY --from=work /both /both
RUN cat /both > /copy
"""
COLLECTIONS = (
    ("cache", "gc"),
    ("cache", "prune", "--all"),
    ("cache", "gc", "--keep-storage", "1MB"),
    ("cache", "gc", "--keep-storage", "3MB", "--dry-run"),
    ("cache", "prune", "--filter", "type=mount"),
    ("cache", "du"),
    ("cache", "verify"),
)
LIMIT = 300.0
"""Seconds that one command may take on a machine that is busy."""


class Stress:
    """One run over the store below `root`; `failures` says all that went wrong."""

    def __init__(self, root: Path, bases: Path, *, builders: int, seconds: float, seed: int) -> None:
        self.builds = 0
        self.killed = 0
        self.collections = 0
        self.most_locks = 0
        self.failures: list[str] = []
        self._project = Project(root, bases)
        self._builders = builders
        self._seed = seed
        self._end = time.monotonic() + seconds

    def run(self) -> None:
        threads = [threading.Thread(target=self._build, args=(number,)) for number in range(self._builders)]
        threads.append(threading.Thread(target=self._collect))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._finish()

    def _goes_on(self) -> bool:
        return time.monotonic() < self._end and not self.failures

    def _build(self, number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        context = self._project.root / f"context{number}"
        for name in ("shared", "own"):
            (context / name).mkdir(parents=True)
        sharing = ("shared", "locked", "private")[number % 3]
        (context / "Dockerfile").write_text(DOCKERFILE.format(number=number % 4, sharing=sharing))
        for count in itertools.count():
            shared, own = f"shared {chance.randrange(4)}\n", f"own {number} {chance.randrange(3)}\n"
            (context / "shared/s").write_text(shared)
            (context / "own/f").write_text(own)
            out = self._project.root / f"out{number}-{count}"
            arguments = ["build", *self._project.base(), "-o", f"type=local,dest={out}", str(context)]
            if chance.random() < 0.1:
                self._kill(arguments, chance.random())
            else:
                done = self._command(*arguments)
                self.builds += 1
                if done and (
                    (out / "copy").read_text() != shared + own or (out / "noise").stat().st_size != 100_000
                ):
                    self.failures.append(f"{out} is not what was to be built")
            if out.is_dir():
                _remove(out)
            if not self._goes_on():
                return

    def _kill(self, arguments: list[str], after: float) -> None:
        process = self._project.start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.killed += 1

    def _collect(self) -> None:
        for arguments in itertools.cycle(COLLECTIONS):
            self._command(*arguments)
            self.collections += 1
            self.most_locks = max(self.most_locks, len(os.listdir(self._project.store / "locks-v1")))
            if not self._goes_on():
                return

    def _command(self, *arguments: str) -> bool:
        process = self._project.start(*arguments, stdout=subprocess.DEVNULL)
        try:
            err = process.communicate(timeout=LIMIT)[1].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            err = process.communicate()[1].decode() + f"did not end within {LIMIT:.0f} s"
        if process.returncode or "WARNING" in err or "Traceback" in err:
            self.failures.append(f"{' '.join(arguments)}: {process.returncode}\n{err}")
            return False
        return True

    def _finish(self) -> None:
        """With nobody else there a collection leaves nothing behind, and all blobs are whole."""
        for arguments in (("cache", "gc"), ("cache", "verify")):
            self._command(*arguments)
        for part in ("locks-v1", "running-v1", "partials-v1"):
            left = [name for name in os.listdir(self._project.store / part) if not name.startswith(".")]
            if left:
                self.failures.append(f"left in {part}: {len(left)}")
        names = os.listdir(self._project.store / "snapshots-v1")
        left = [name for name in names if name.startswith(".") and name != ".boot"]
        if left:
            self.failures.append(f"left in snapshots-v1: {left}")


def _remove(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--builders", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minibuild-stress-") as folder:
        bases, root = Path(folder, "bases"), Path(folder, "project")
        bases.mkdir()
        root.mkdir()
        make_bases(bases)
        stress = Stress(root, bases, builders=given.builders, seconds=60 * given.minutes, seed=given.seed)
        stress.run()
    print(
        f"{stress.builds} builds, {stress.killed} killed, {stress.collections} collections, "
        f"{stress.most_locks} lock files at most, {len(stress.failures)} failures"
    )
    for failure in stress.failures:
        print(failure)
    sys.exit(bool(stress.failures))


if __name__ == "__main__":
    main()
