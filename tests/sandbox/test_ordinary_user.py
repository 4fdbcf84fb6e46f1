"""The same tests once more as an ordinary user with subordinate ids, when these run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minibuild.sandbox import userns

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="already an ordinary user")


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """A user with subordinate ids: one there is, or one made for the time."""
    for line in Path("/etc/subuid").read_text().splitlines() if Path("/etc/subuid").exists() else ():
        try:
            found = pwd.getpwnam(line.partition(":")[0])
        except KeyError:
            continue
        if found.pw_uid and userns.read_ranges(Path("/etc/subgid"), found.pw_uid):
            yield found
            return
    if shutil.which("useradd") is None:
        pytest.skip("no user has subordinate ids, and useradd is not installed")
    name = f"minibuild{os.getpid()}"
    span = "1100000-1165535"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/false", name], check=True)
    try:
        subprocess.run(["usermod", "--add-subuids", span, "--add-subgids", span, name], check=True)
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", name], check=True)


def as_user(user: pwd.struct_passwd, folder: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the user, with what these tests can import."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return subprocess.run(
        argv,
        cwd=folder,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        timeout=600,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HYPOTHESIS_STORAGE_DIRECTORY": folder,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "store"), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


@pytest.fixture(scope="module")
def python(user: pwd.struct_passwd) -> str:
    """An interpreter that the user can run and that has what the tests import."""
    needed = "import pytest, hypothesis, zstandard, isal, minibuild.sandbox.client"
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if as_user(user, "/", name, "-c", needed).returncode == 0:
                return name
        except OSError:
            continue
    pytest.skip("no interpreter with the test packages can be run by an ordinary user")


@pytest.mark.parametrize("module", sorted(path.name for path in HERE.glob("test_*.py")))
def test_as_an_ordinary_user(module: str, user: pwd.struct_passwd, python: str) -> None:
    if module == Path(__file__).name:
        pytest.skip("this one")
    # pytest's own folder is closed to others; what is made below it belongs to ids of the user.
    folder = Path(tempfile.mkdtemp(prefix="minibuild-"))
    folder.chmod(0o755)
    os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        options = (
            "-rs",
            "--basetemp",
            f"{folder}/tmp",
            "-c",
            f"{ROOT}/pyproject.toml",
            "--rootdir",
            f"{ROOT}",
        )
        done = as_user(user, str(folder), python, "-m", "pytest", *options, str(HERE / module))
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "no sandbox here" not in done.stdout
    finally:
        shutil.rmtree(folder)
