"""A disk that fills up: one clear error, the store whole, and the build goes on once there is space."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.feature.project import Done, Project

# In a mount namespace of its own: build on a small disk, give it more room, build again.
SCRIPT = """
set -u
mount -t tmpfs -o size=96m,mode=0755 tmpfs "$DISK" || exit 99
dd if=/dev/zero of="$DISK/filler" bs=1M count=$FILLED status=none || exit 99
"$@" 2> "$SAID/first"; echo $? > "$SAID/first.code"
ls -A "$MINIBUILD_ROOT/running-v1" | grep -v -e '^[.]gate$' -e '^[.]gc$' > "$SAID/left"
find "$DISK" -path "$MINIBUILD_ROOT" -prune -o -type f -print | grep -v /filler$ > "$SAID/written"
grep -c " $DISK/" /proc/self/mountinfo > "$SAID/mounts"
rm "$DISK/filler"
"$@" 2> "$SAID/second"; echo $? > "$SAID/second.code"
find "$MINIBUILD_ROOT/blobs" -type f | while read -r blob; do
    test "$(sha256sum < "$blob" | cut -d ' ' -f 1)" = "${blob##*/}" || echo "$blob"
done > "$SAID/damaged"
"""


def twice(project: Project, *options: str, left: int, store: bool = True) -> tuple[Done, Done]:
    """Build on a disk with `left` MiB, that holds the store or the outputs, then with more."""
    return run_twice(
        project, "build", *project.base(), *options, str(project.context), left=left, store=store
    )


def run_twice(project: Project, *arguments: str, left: int, store: bool = True) -> tuple[Done, Done]:
    """The same with any command."""
    disk, said = project.root / "disk", project.root / "said"
    disk.mkdir()
    said.mkdir()
    enter = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    command = [sys.executable, "-m", "minibuild", *arguments]
    variables = project.variables({"FILLED": str(96 - left), "DISK": str(disk), "SAID": str(said)})
    if store:
        variables["MINIBUILD_ROOT"] = str(disk / "store")
    done = subprocess.run([*enter, "sh", "-c", SCRIPT, "sh", *command], env=variables, check=False)
    assert done.returncode != 99, "tmpfs cannot be mounted"
    for name in ("left", "damaged", "written"):
        assert (said / name).read_text() == "", name
    assert (said / "mounts").read_text() == "0\n"
    first, second = (
        Done(int((said / f"{name}.code").read_text()), "", (said / name).read_text())
        for name in ("first", "second")
    )
    assert second.code == 0, second.err
    return first, second


@pytest.fixture
def large(project: Project) -> Path:
    """A file of 20 MB that no compression makes smaller."""
    path = project.context / "large"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(os.urandom(1 << 20))
    return path


def test_no_space_for_a_copied_layer(project: Project, large: Path) -> None:
    project.dockerfile("FROM scratch\nCOPY Dockerfile /\nCOPY large /\n")
    first, second = twice(project, left=10)
    assert first.code == 5
    assert "no space left for the store" in first.error
    assert second.cached("COPY Dockerfile")


def test_no_space_for_what_a_run_writes(project: Project) -> None:
    if os.getuid():
        pytest.skip("needs root, or subordinate users inside a namespace")
    project.dockerfile("FROM busybox\nRUN true\nRUN dd if=/dev/urandom of=/large bs=1M count=20\n")
    first, second = twice(project, left=16)
    assert first.code == 1
    assert "No space left on device" in first.err and "exit code: 1" in first.error
    assert second.cached("RUN true")


def test_no_space_for_the_layer_of_a_run(project: Project) -> None:
    """There is room for the files once, but not for the layer beside them."""
    if os.getuid():
        pytest.skip("needs root, or subordinate users inside a namespace")
    project.dockerfile("FROM busybox\nRUN true\nRUN head -c 12000000 /dev/urandom > /large\n")
    first, second = twice(project, left=22)
    assert first.code == 5
    assert "no space left on the disk that the store is on" in first.error
    assert second.cached("RUN true")


@pytest.mark.parametrize(
    "kind", ["type=oci,", "type=oci,tar=false,", "type=docker,", "type=tar,", "type=local,"]
)
def test_no_space_for_an_output(project: Project, large: Path, kind: str) -> None:
    project.dockerfile("FROM scratch\nCOPY large /\n")
    dest = project.root / "disk/out"
    first, _ = twice(project, "-o", f"{kind}dest={dest}", left=8, store=False)
    assert first.code == 5
    assert f"cannot write {dest}: no space left on device" in first.error


@pytest.mark.parametrize("left", [12, 30, 50])
def test_no_space_for_cache_mounts_that_are_imported(project: Project, left: int) -> None:
    """There is room for part of the file, for it alone, or for its layer as well."""
    run = "RUN --mount=type=cache,target=/cache head -c 20000000 /dev/urandom > /cache/large\n"
    project.built(text=f"FROM busybox\n{run}")
    archive = str(project.root / "mounts.tar")
    assert project.command("cache", "mounts", "export", archive).code == 0
    first, _second = run_twice(project, "cache", "mounts", "import", archive, left=left)
    assert first.code == 5
    assert "no space left" in first.error
    assert not {"mounts.tar", "running-v1"} & set(first.error.replace(":", "/").split("/"))


MAKE_ROOM = """
set -eu
mount -t tmpfs -o size=32m,mode=0755 tmpfs "$DISK" || exit 99
"$@"
dd if=/dev/zero of="$DISK/filler" bs=1M status=none 2> /dev/null || true
dd if=/dev/zero of="$DISK/rest" bs=1 status=none 2> /dev/null || true
"$PYTHON" -m minibuild cache prune --all --json
"""


def test_a_full_disk_can_be_pruned(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY Dockerfile /\nCOPY Dockerfile /again\n")
    disk = project.root / "disk"
    disk.mkdir()
    enter = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    build = [sys.executable, "-m", "minibuild", "build", "-q", str(project.context)]
    variables = project.variables(
        {"DISK": str(disk), "MINIBUILD_ROOT": str(disk / "store"), "PYTHON": sys.executable}
    )
    done = subprocess.run(
        [*enter, "sh", "-c", MAKE_ROOM, "sh", *build],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert '"kind": "step"' in done.stdout
