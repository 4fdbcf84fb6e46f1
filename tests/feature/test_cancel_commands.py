"""A signal ends commands other than a build as it does a build: soon, with what is half done cleared away."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.feature.project import Project, kill
from tests.feature.test_cancel import huge_image, kept, slow_base
from tests.feature.test_kill import until
from tests.servers.faults import stall
from tests.servers.images import noise
from tests.servers.registry import FakeRegistry

SOON = 120  # seconds
SIGNALS = [signal.SIGINT, signal.SIGTERM]

Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin(project: Project) -> Iterator[Begin]:
    """Starts commands; none outlives its test."""
    with ExitStack() as stack:

        def started(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
            process = project.start(*arguments, **options)
            stack.callback(_end, process)
            return process

        yield started


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        kill(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def ends(process: subprocess.Popen[bytes], number: int) -> str:
    """Send the signal; what the command said then."""
    assert process.stderr is not None
    process.send_signal(number)
    process.wait(timeout=SOON)
    said = process.stderr.read().decode()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


def left(project: Project) -> list[str]:
    """What open stores have on the disk."""
    return [name for name in os.listdir(project.store / "running-v1") if name[0] != "."]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_save_leaves_the_archive_that_was_there(project: Project, begin: Begin, number: int) -> None:
    layout, dest = project.root / "layout", project.root / "dest"
    huge_image(layout)
    dest.mkdir()
    (dest / "out.tar").write_text("as it was")
    assert project.command("load", "-i", str(layout), "-t", "huge").code == 0
    process = begin("save", "huge", "-o", str(dest / "out.tar"))
    until(lambda: [*project.store.glob("running-v1/*/t*")])
    assert "ERROR: cancelled\n" in ends(process, number)
    assert {path.name: path.read_text() for path in dest.iterdir()} == {"out.tar": "as it was"}
    assert not left(project)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_save_does_not_wait_for_a_reader(project: Project, begin: Begin, number: int) -> None:
    fifo = project.root / "fifo"
    os.mkfifo(fifo)
    project.built("-t", "small", text="FROM scratch\nCOPY Dockerfile /\n")
    process = begin("save", "small", "-o", str(fifo))
    until(lambda: left(project))
    ends(process, number)
    assert not left(project)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_pull_keeps_what_came(project: Project, registry: FakeRegistry, begin: Begin, number: int) -> None:
    process = begin("pull", slow_base(registry))
    until(lambda: kept(project).count(2 << 20) == 2)
    ends(process, number)
    assert kept(project) == [2 << 20] * 2
    assert not left(project)


@pytest.mark.parametrize("command", ["push", "compose"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_registry_that_does_not_answer_is_not_waited_for(
    project: Project, registry: FakeRegistry, begin: Begin, command: str, number: int
) -> None:
    name = f"{registry.host}/out:1"
    project.built("-t", name, text="FROM scratch\nCOPY Dockerfile /\n")
    registry.fault(stall(-1), path="/blobs/")
    arguments = [name] if command == "push" else ["merge", "--push", "-t", name, name]
    process = begin(command, *arguments)
    until(lambda: registry.count(path="/blobs/"))
    ends(process, number)
    assert not left(project)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_load_leaves_nothing_of_what_it_read(project: Project, begin: Begin, number: int) -> None:
    archive = project.root / "archive.tar"
    project.write("large", noise(4 << 20))
    project.built("-o", f"type=oci,dest={archive}", text="FROM scratch\nCOPY large /\n")
    process = begin("load", "-t", "loaded", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(archive.read_bytes()[: 3 << 20])
    process.stdin.flush()
    until(lambda: _below(project.store / "running-v1"))
    ends(process, number)
    assert not left(project)


def _below(folder: Path) -> list[Path]:
    return [*folder.glob("*/w*/layout/blobs/sha256/*")]
