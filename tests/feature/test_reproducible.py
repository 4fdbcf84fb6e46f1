"""The same inputs give the same image: cold or warm, early or late, alone or side by side, whoever builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import minibuild
from minibuild.oci.manifest import Manifest
from minibuild.values import replace
from tests.feature.conftest import lacking
from tests.feature.project import Image, Project
from tests.layers.stacks import archive
from tests.servers.images import image_of
from tests.servers.registry import FakeRegistry

TEXT = """
FROM busybox AS one
RUN echo 1 > /one && chown 1000:1001 /one && touch -d @1000000000 /one / /old && rm /old/a
WORKDIR /made/by/workdir
FROM busybox AS two
COPY --chown=app:wheel context /there/deeper/
RUN ln /there/deeper/a /there/deeper/hard && setfattr -n user.x -v y /there/deeper/a 2>/dev/null; \\
    touch -h -d @1000000001 /there/deeper /there/deeper/hard /there
FROM busybox
COPY --from=one /one /made /from/
COPY --from=two /there /there
COPY <<EOF /inline
text
EOF
"""
EPOCH = {"SOURCE_DATE_EPOCH": "1234567890"}


def _context(project: Project) -> None:
    for name in ("a", "b", "folder/c"):
        os.utime(project.write(f"context/{name}", name * 100), (1_100_000_000, 1_100_000_000))
    for folder in ("context/folder", "context"):
        os.utime(project.context / folder, (1_100_000_001, 1_100_000_001))


def _other_store(project: Project, name: str) -> dict[str, str]:
    return {"MINIBUILD_ROOT": str(project.root / name)}


def test_a_cold_a_warm_and_an_uncached_build_have_the_same_layers(project: Project) -> None:
    _context(project)
    cold = project.image(text=TEXT)
    assert project.image().digest == cold.digest
    time.sleep(1.1)  # times in seconds would differ now
    assert project.image("--no-cache").diff_ids == cold.diff_ids
    assert project.image(environment=_other_store(project, "second")).diff_ids == cold.diff_ids


def test_with_an_epoch_the_whole_image_is_the_same(project: Project) -> None:
    _context(project)
    first = project.image(text=TEXT, environment=EPOCH)
    time.sleep(1.1)
    again = project.image("--no-cache", environment={**EPOCH, **_other_store(project, "second")})
    assert again.digest == first.digest
    argument = project.image("--build-arg", "SOURCE_DATE_EPOCH=1234567890")
    assert argument.digest == first.digest
    assert first.document["created"] == "2009-02-13T23:31:30Z"
    assert max(file.mtime for file in first.files.values()) <= 1234567890


def test_layers_of_a_base_keep_their_annotations_in_every_build(
    project: Project, registry: FakeRegistry
) -> None:
    base = image_of([archive([])])
    layers = [replace(layer, annotations=(("some.key", "value"),)) for layer in base.manifest.layers]
    manifest = Manifest.of(base.manifest.config, layers)
    registry.add("base", base)
    registry.add_manifest("base", manifest.media_type, manifest.raw, "1")
    text = f"FROM {registry.host}/base:1\nENV A=1\n"
    first = project.image("--platform=linux/amd64", text=text)
    assert first.manifest["layers"][0]["annotations"] == {"some.key": "value"}
    assert project.image("--platform=linux/amd64", text=text).digest == first.digest


@pytest.mark.parametrize("epoch", ["1234567890000", "253402300800", "-999999999999999999"])
def test_an_epoch_that_is_no_time_of_an_image_is_refused(project: Project, epoch: str) -> None:
    done = project.build(text="FROM scratch\n", environment={"SOURCE_DATE_EPOCH": epoch})
    assert done.code == 1
    assert f"invalid SOURCE_DATE_EPOCH: {epoch}" in done.error and "milliseconds" in done.error


@pytest.mark.parametrize(
    ("epoch", "created"), [("253402300799", "9999-12-31T23:59:59Z"), ("-30610224000", "1000-01-01T00:00:00Z")]
)
def test_the_first_and_the_last_epoch_date_an_image(project: Project, epoch: str, created: str) -> None:
    image = project.image(text="FROM scratch\nCOPY Dockerfile /\n", environment={"SOURCE_DATE_EPOCH": epoch})
    assert image.document["created"] == created


def test_times_after_the_epoch_are_set_back_to_it(project: Project) -> None:
    path = project.write("late")
    os.utime(path, (2_000_000_000, 2_000_000_000))
    image = project.image(text="FROM busybox\nCOPY late /\nRUN echo > /now\n", environment=EPOCH)
    assert image.files["late"].mtime == image.files["now"].mtime == 1234567890
    assert image.files["old/a"].mtime == 900_000_000


# Gives an ordinary user subordinate ids for as long as this namespace lasts; the machine never knows.
AS_USER = """
set -eu
for file in passwd group subuid subgid; do cat /etc/$file > "$WORK/$file"; done
echo 'minibuilder:x:54321:54321::/nowhere:/bin/sh' >> "$WORK/passwd"
echo 'minibuilder:x:54321:' >> "$WORK/group"
for file in subuid subgid; do echo 'minibuilder:1000000000:65536' >> "$WORK/$file"; done
for file in passwd group subuid subgid; do mount --bind "$WORK/$file" /etc/$file; done
exec setpriv --reuid=54321 --regid=54321 --clear-groups "$@"
"""


@pytest.fixture
def user_python() -> list[str]:
    """An interpreter that every user may run, with the variable that lets it find what this one finds."""
    candidates = [Path(sys.executable), Path("/usr/bin/python3")]
    for path in candidates:
        script = (
            "import os, sys, zstandard; os.stat(os.path.realpath(sys.executable)); "
            f"assert sys.version_info[:2] == {sys.version_info[:2]}"
        )
        probe = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", str(path), "-c", script]
        done = subprocess.run(probe, env=_python_variables(), capture_output=True, check=False)
        if not done.returncode:
            return [str(path)]
    lacking("no Python of this version that an ordinary user may run")
    return []


def _python_variables() -> dict[str, str]:
    import zstandard

    source = Path(minibuild.__file__).parents[1]
    packages = Path(zstandard.__file__).parents[1]
    return {
        "PYTHONPATH": os.pathsep.join([str(source), str(source / "store"), str(packages)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def open_project(bases: Path, sandbox_works: None) -> Iterator[Project]:
    """A project that every user can reach, as those below pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="minibuild-test-"))
    folder.chmod(0o755)
    shutil.copytree(bases, folder / "bases")
    (folder / "bases").chmod(0o755)
    (folder / "project").mkdir()
    yield Project(folder / "project", folder / "bases")
    shutil.rmtree(folder)


def test_an_ordinary_user_builds_the_same_image_as_root(
    open_project: Project, user_python: list[str]
) -> None:
    if os.getuid():
        pytest.skip("needs root to become somebody else")
    for tool in ("setpriv", "newuidmap", "unshare"):
        if shutil.which(tool) is None:
            lacking(f"{tool} is not installed")
    project = open_project
    _context(project)
    as_root = project.image(text=TEXT, environment=EPOCH)
    home, work = project.root / "user", project.root / "work"
    for folder in (home, work):
        folder.mkdir()
        os.chown(folder, 54321, 54321)
    variables = {
        **project.variables(EPOCH),
        **_python_variables(),
        "WORK": str(work),
        "HOME": str(home),
        "TMPDIR": str(home),
        "MINIBUILD_ROOT": str(home / "store"),
    }
    command = ["unshare", "-m", "sh", "-c", AS_USER, "sh", *user_python, "-m", "minibuild"]
    layout = home / "layout"
    for hits in (0, 7):
        done = subprocess.run(
            [*command, "build", *project.base(), "-t", "app", "-o", f"type=oci,tar=false,dest={layout}",
             str(project.context)],
            env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"7 steps, {hits} cached" in done.stderr, done.stderr
    assert Image(layout).digest == as_root.digest
    ran = subprocess.run(
        [*command, "run", "app", "sh", "-c", "stat -c '%u %g' /from/one; exit 5"],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (5, "1000 1001\n", "")
