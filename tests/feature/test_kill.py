"""kill -9 at the worst moments: nothing goes on running, and the next build needs no repair."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.feature.project import Image, Project, kill, processes
from tests.servers.faults import change, cut
from tests.servers.registry import FakeRegistry


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def heard(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Read what a build says until `words` begin a line's text."""
    assert process.stderr is not None
    said = b""
    while words not in said:
        piece = os.read(process.stderr.fileno(), 1 << 16)
        assert piece, said.decode()
        said += piece


def check_store(project: Project) -> None:
    """No blob is other than its name says."""
    for path in (project.store / "blobs").rglob("*"):
        if path.is_file() and len(path.name) == 64:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def nothing_runs(project: Project, marker: str) -> None:
    until(lambda: not processes(str(project.store)) and not processes(marker))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(project.root) not in mounts


@pytest.fixture
def marker() -> str:
    """A number of seconds that no other command sleeps."""
    return f"8640.{os.getpid()}{time.monotonic_ns() % 100000:05}"


def test_in_the_middle_of_a_run(project: Project, marker: str) -> None:
    once = f"test -e /c/been || {{ touch /c/been; echo now; setsid sleep {marker} & sleep {marker}; }}"
    project.dockerfile(
        f"FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /stamp\n"
        f"RUN --mount=type=cache,target=/c {once}; echo made > /made\n"
    )
    process = project.start("build", *project.base(), "--progress", "rawjson", str(project.context))
    heard(process, b'"data": "now')
    kill(process)
    nothing_runs(project, marker)
    check_store(project)
    done = project.built()
    assert done.cached("RUN cat /proc")
    assert project.image().text("made") == "made\n"
    check_store(project)


def test_in_the_middle_of_a_copy(project: Project, marker: str) -> None:
    large = project.context / "large"
    with large.open("wb") as file:
        file.truncate(3 << 30)
    project.dockerfile("FROM busybox\nCOPY Dockerfile /\nCOPY large /\n")
    process = project.start("build", *project.base(), str(project.context))
    running = project.store / "running-v1"
    until(lambda: process.poll() is not None or any(path.is_file() for path in _written(running)))
    assert process.poll() is None, process.communicate()
    kill(process)
    nothing_runs(project, marker)
    check_store(project)
    large.write_bytes(b"small now")
    image = project.image()
    assert image.files["large"].data == b"small now"
    check_store(project)


def _written(running: Path) -> list[Path]:
    """Unfinished files of more than a few bytes."""
    found = []
    for path in running.rglob("*") if running.is_dir() else ():
        try:
            if path.is_file() and path.stat().st_size > 10_000:
                found.append(path)
        except OSError:
            continue
    return found


def test_in_the_middle_of_a_pull_which_is_resumed(
    project: Project, registry: FakeRegistry, marker: str
) -> None:
    base = Image(project.bases, "busybox")
    repository = registry.repository("base")
    for descriptor in (base.manifest["config"], *base.manifest["layers"]):
        repository.blobs[descriptor["digest"]] = base.blob(descriptor["digest"])
    registry.add_manifest("base", base.manifest["mediaType"], base.blob(base.digest), "latest")
    layer = base.manifest["layers"][0]["digest"]
    asked, go_on = threading.Event(), threading.Event()

    def stall(data: bytes) -> bytes:
        asked.set()
        go_on.wait(60)
        return data

    registry.fault(cut(1_000_000), method="GET", path=layer, times=1)
    registry.fault(change(stall), method="GET", path=layer, times=1)
    project.dockerfile(f"FROM {registry.host}/base\nRUN echo made > /made\n")
    process = project.start("build", str(project.context))
    assert asked.wait(60)
    kill(process)
    go_on.set()
    nothing_runs(project, marker)
    check_store(project)
    assert project.image().text("made") == "made\n"
    ranges = [one.headers.get("Range") for one in registry.requests("GET", layer)]
    assert ranges == [None, "bytes=1000000-", "bytes=1000000-"]
    check_store(project)


def test_in_the_middle_of_an_export(project: Project, marker: str) -> None:
    project.dockerfile("FROM busybox\nRUN head -c 12000000 /dev/urandom > /large\n")
    project.built()
    out = project.root / "out"
    out.mkdir()
    dest = out / "image.tar"
    slow = f"type=oci,dest={dest},compression=gzip,compression-level=9,force-compression=true"
    process = project.start("build", *project.base(), "-o", slow, str(project.context))
    heard(process, b"exporting oci")
    kill(process)
    nothing_runs(project, marker)
    assert not dest.exists()
    check_store(project)
    project.built("-o", slow)
    assert dest.exists()
    assert [path.name for path in out.iterdir()] == ["image.tar"]


def test_while_another_build_goes_on(project: Project, marker: str) -> None:
    """Two builds on one store wait for the same step; killing the one that runs it lets the other go on."""
    project.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,target=/c "
        f"test -e /c/been || {{ touch /c/been; echo now; sleep {marker}; }}; echo made > /made\n"
    )
    command = ["build", *project.base(), "--progress", "rawjson", str(project.context)]
    first = project.start(*command)
    heard(first, b'"data": "now')
    second = project.start(*command)
    kill(first)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said.decode()
    nothing_runs(project, marker)
    check_store(project)
