"""What a build holds in memory, whatever it is given: told by how the peak grows between two sizes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from minibuild.engine.layerforms import Layers
from tests.feature.project import Project

# a process's own peak: that of a child is never less than that of whoever started it
RUN = """
import re, sys
from minibuild.cli.main import main
try:
    main()
finally:
    print(re.search("VmHWM:\\\\s*(\\\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def peak(project: Project, *arguments: str) -> int:
    """The most that a command held (MiB)."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        env=project.variables(),
        timeout=120,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1]) // 1024


def packed(path: Path, *, count: int, size: int = 1, dockerfile: str = "") -> None:
    """A tar archive of as many files."""
    with tarfile.open(path, "w") as out:
        files = [("Dockerfile", dockerfile.encode())] if dockerfile else []
        for name, data in (*files, *((f"f{number}", bytes(size)) for number in range(count))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def test_contents_of_an_added_archive_are_not_held(project: Project) -> None:
    project.dockerfile("FROM scratch\nADD files.tar /x/\n")
    peaks = []
    for count in (20, 800):
        packed(project.context / "files.tar", count=count, size=60_000)
        peaks.append(peak(project, "build", "-q", str(project.context)))
    assert peaks[1] < peaks[0] + 20, f"MiB for 1 and 48 MB: {peaks}"


@contextmanager
def two_processors() -> Iterator[None]:
    """What is started in the block may use no more."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_layers_that_could_be_written_side_by_side_are_not_all_held(project: Project) -> None:
    peaks = []
    for count in (4, 32):
        lines = []
        for number in range(count):
            with (project.context / f"f{number}").open("wb") as file:
                file.truncate(6 << 20)
            lines += [f"FROM scratch AS s{number}", f"COPY f{number} /{count}/x{number}"]
        copies = [f"COPY --from=s{number} / /" for number in range(count)]
        project.dockerfile("\n".join([*lines, "FROM scratch", *copies, ""]))
        with two_processors():
            peaks.append(peak(project, "build", "-q", str(project.context)))
    assert peaks[1] < peaks[0] + 30, f"MiB for 4 and 32 stages: {peaks}"


@contextmanager
def layers_read() -> Iterator[list[object]]:
    """Notes each layer that is opened to be read."""
    found: list[object] = []
    reading = Layers.reading

    def noted(self: Layers, layer: object) -> object:
        found.append(layer)
        return reading(self, layer)  # type: ignore[arg-type]

    with mock.patch.object(Layers, "reading", noted):
        yield found


def test_files_added_out_of_an_archive_context_are_read_together(project: Project) -> None:
    reads = []
    for count in (2, 12):
        archive = project.root / f"{count}.tar"
        packed(archive, count=count, dockerfile="FROM scratch\nADD f* /x/\n")
        with layers_read() as found:
            project.built("-q", context=str(archive))
        reads.append(len(found))
    assert reads[0] == reads[1]


def test_archives_in_an_archive_context_are_unpacked_beside_other_files(project: Project) -> None:
    inner = project.root / "f9.tar"
    packed(inner, count=2)
    archive = project.root / "context.tar"
    packed(archive, count=2, dockerfile="FROM scratch\nADD f* /x/\n")
    with tarfile.open(archive, "a") as out:
        out.add(inner, "f2")
    image = project.image(context=str(archive))
    assert sorted(image.files) == ["x", "x/f0", "x/f1"]


def test_a_dockerfile_that_is_too_large_is_refused_unread(project: Project) -> None:
    with project.dockerfile("FROM scratch\n").open("r+b") as file:
        file.truncate(1 << 40)
    done = project.build()
    assert done.code == 2
    assert "Dockerfile is larger than 16 MiB" in done.error


def test_what_never_ends_is_no_dockerfile(project: Project) -> None:
    done = project.build("-f", "/dev/zero")
    assert done.code == 2
    assert "/dev/zero is larger than 16 MiB" in done.error
