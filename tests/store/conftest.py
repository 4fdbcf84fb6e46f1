"""A store for each test, and other processes to use it with."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from minibuild_store.store import Store

PRELUDE = """
import os, sys, time
from pathlib import Path
from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.errors import *
from minibuild_store.gc import Roots
from minibuild_store.store import Store
store = Store.open(Path(sys.argv[1]))
def say(text):
    os.write(1, text.encode() + b"\\n")
"""


class Other:
    """Another process that has the store open and runs a script."""

    def __init__(self, root: Path, script: str) -> None:
        command = [sys.executable, "-c", PRELUDE + script, str(root)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def hear(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 60)[0]:
            pytest.fail("it keeps silent")
        line = self.process.stdout.readline().decode()
        if not line:
            assert self.process.stderr is not None
            pytest.fail(f"it said nothing more: {self.process.stderr.read().decode()}")
        return line.rstrip("\n")

    def tell(self) -> None:
        """Let it pass its next input()."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def finish(self) -> str:
        """Wait for a clean end; what it said since."""
        out, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, err.decode()) == (0, "")
        return out.decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as store:
        yield store


@pytest.fixture
def other(root: Path) -> Iterator[Callable[[str], Other]]:
    """Start another process on the same store."""
    started: list[Other] = []

    def start(script: str) -> Other:
        started.append(Other(root, script))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def litter(root: Path) -> Callable[[], list[str]]:
    """Everything temporary in the store: unfinished files, workspaces, lock files, trash."""

    def look() -> list[str]:
        found = []
        for part in ("running-v1", "locks-v1", "partials-v1", "snapshots-v1", "."):
            for name in os.listdir(root / part):
                hidden = name.startswith(".") and name not in (".gate", ".gc", ".boot")
                if hidden or (part in ("running-v1", "locks-v1", "partials-v1") and name[0] != "."):
                    found.append(f"{part}/{name}")
        return found

    return look


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that every user can reach and write, as those below tmp_path are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def unprivileged() -> Callable[..., str]:
    """Run a script that has no power over files it does not own or may not write; what it prints."""

    def run(script: str, *arguments: Path) -> str:
        drop = "import os, sys\nimport minibuild_store.store, minibuild_store.errors, shutil, json, pwd\n"
        if os.getuid() == 0:
            drop += "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        command = [sys.executable, "-c", drop + script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or done.stderr:
            pytest.fail(done.stderr)
        return done.stdout

    return run
