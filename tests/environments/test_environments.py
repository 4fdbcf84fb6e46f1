"""One image, built with less and less: the same layers as long as anything works, and a clear end after."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUSYBOX = shutil.which("busybox", path="/bin:/usr/bin")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take rights away"),
    pytest.mark.skipif(BUSYBOX is None, reason="busybox-static is not installed"),
]

# Times are those of the context and of SOURCE_DATE_EPOCH, so that layers can be equal to the byte.
NO_RUN = """\
FROM scratch
COPY --chown=5:6 f /srv/f
COPY --chmod=755 busybox /bin/busybox
WORKDIR /w
ENV A=b
"""
WITH_RUN = (
    NO_RUN
    + """\
RUN ["/bin/busybox", "sh", "-c", "cd /srv; b=/bin/busybox; $b mkdir d; $b touch d/a d/b; $b chown 7:8 d/a; \
$b chown -R 9:9 d/b; $b ln -s a d/l; $b chown -h 3:4 d/l; $b rm f"]
USER 1000:1001
RUN ["/bin/busybox", "mkdir", "-m", "700", "/w/own"]
"""
).replace("WORKDIR /w", "COPY --chown=1000:1001 empty /w\nWORKDIR /w")


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """A user without subordinate ids, made for the time."""
    if shutil.which("useradd") is None:
        pytest.skip("useradd is not installed")
    name = f"minibuilde{os.getpid()}"
    argv = ["useradd", "--no-create-home", "--shell", "/bin/false", "-K", "SUB_UID_COUNT=0", "-K"]
    subprocess.run([*argv, "SUB_GID_COUNT=0", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)


@pytest.fixture(scope="module")
def python(user: str) -> str:
    """An interpreter that the user can run and that has what minibuild imports."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3", "/opt/venv-user/bin/python"):
        argv = [name, "-c", "import zstandard, isal, typer, xxhash, urllib3"]
        try:
            found = pwd.getpwnam(user)
            done = subprocess.run(
                argv,
                user=found.pw_uid,
                group=found.pw_gid,
                env=_env(),
                cwd="/",
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return name
    pytest.skip("no interpreter with the packages can be run by an ordinary user")


def _env() -> dict[str, str]:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "store"), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "1000000000",
        "HOME": "/",
    }


class Place:
    """A store of the user's own and a way to run minibuild with less than there is."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        self.context = folder / "context"
        self.context.mkdir()
        assert BUSYBOX is not None
        shutil.copy(BUSYBOX, self.context / "busybox")
        (self.context / "f").write_text("content\n")
        (self.context / "empty").mkdir()
        for name in ("busybox", "f", "empty"):
            os.utime(self.context / name, (1000, 1000))

    def run(self, options: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [self.python, str(HERE / "confine.py"), *options, "--", self.python, "-m", "minibuild"]
        environment = {**_env(), "MINIBUILD_ROOT": str(self.folder / "store" / "s")}
        return subprocess.run(
            [*argv, *arguments], env=environment, cwd="/", capture_output=True, text=True, check=False
        )

    def build(self, options: list[str], text: str, *more: str) -> tuple[list[str], str]:
        """The diff IDs, and the notices."""
        (self.context / "Dockerfile").write_text(text)
        out = self.folder / "store" / "out"
        done = self.run(
            options,
            "build",
            str(self.context),
            "--progress=plain",
            "-o",
            f"type=oci,dest={out},tar=false",
            *more,
        )
        assert done.returncode == 0, done.stderr

        def blob(digest: str) -> dict[str, object]:
            document: dict[str, object] = json.loads((out / "blobs" / digest.replace(":", "/")).read_text())
            return document

        index = json.loads((out / "index.json").read_text())
        manifest = blob(index["manifests"][0]["digest"])
        config = blob(manifest["config"]["digest"])  # type: ignore[index]
        return config["rootfs"]["diff_ids"], done.stderr  # type: ignore[index]


@pytest.fixture
def place(user: str, python: str) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="minibuild-environment-"))
    folder.chmod(0o755)
    (folder / "store").mkdir()
    yield Place(folder, python)
    subprocess.run(["rm", "-rf", folder], check=True)


def own(place: Place, user: str) -> None:
    os.chown(place.folder / "store", pwd.getpwnam(user).pw_uid, -1)


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (["--user", "USER"], "user namespace (single id)"),
        (["--user", "USER", "--no-new-privs"], "user namespace (single id)"),
        (["--user", "USER", "--mask-proc"], "user namespace (single id)"),
        (["--user", "USER", "--read-only", "STORE"], "user namespace (single id)"),
        (["--caps", "0,1,3,4,5,6,7,8,10,13,18,27,29,31"], "user namespace (all ids)"),
        (["--docker"], "chroot"),
    ],
)
def test_the_layers_are_those_that_root_gets(options: list[str], mode: str, place: Place, user: str) -> None:
    roots, _ = place.build([], WITH_RUN)
    shutil.rmtree(place.folder / "store")
    (place.folder / "store").mkdir()
    options = [word.replace("USER", user).replace("STORE", str(place.folder / "store")) for word in options]
    if user in options:
        own(place, user)
    found, said = place.build(options, WITH_RUN)
    assert f"isolation: {mode}" in said
    assert found == roots


def test_without_any_namespace_a_user_builds_what_has_no_run(place: Place, user: str) -> None:
    roots, _ = place.build([], NO_RUN)
    shutil.rmtree(place.folder / "store")
    (place.folder / "store").mkdir()
    own(place, user)
    nothing = ["--user", user, "--no-userns", "--no-caps", "--no-new-privs"]
    assert place.build(nothing, NO_RUN)[0] == roots
    (place.context / "Dockerfile").write_text(WITH_RUN)
    done = place.run(nothing, "build", str(place.context))
    assert done.returncode == 3
    assert "max_user_namespaces = 0" in done.stderr
    assert "sysctl -w user.max_user_namespaces" in done.stderr
    assert place.run(nothing, "doctor").returncode == 3


def test_a_store_used_in_two_modes_keeps_their_snapshots_apart(place: Place) -> None:
    first, _ = place.build([], WITH_RUN, "--isolation=single-id")
    second, _ = place.build([], WITH_RUN, "--isolation=root", "--no-cache")
    assert first == second
    names = {path.name for path in (place.folder / "store/s").glob("snapshots*/[!.]*")}
    single = {name for name in names if name.endswith(".one")}
    assert {name.removesuffix(".one") for name in single} == names - single


SIDE_BY_SIDE = """\
FROM scratch AS tools
COPY --chmod=755 busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]
FROM tools AS holder
RUN --mount=type=cache,target=/c --mount=type=secret,id=key,env=KEY --mount=type=secret,id=key \\
    b=/bin/busybox; echo > /c/up; for _ in $($b seq 300); do $b test -e /c/done && exit 0; \\
    $b sleep .1; done; exit 1
FROM tools AS seeker
RUN --mount=type=cache,target=/c b=/bin/busybox; for _ in $($b seq 300); do $b test -e /c/up && break; \\
    $b sleep .1; done; $b test -e /c/up || exit 1; \\
    for p in /proc/[0-9]*; do $b grep -qs ^KEY=\\\\\\|.KEY= $p/environ && echo found a variable; \\
    $b ls $p/root/run/secrets/key && echo found a file; $b ls $p/fd && echo sees $p; done 2>/dev/null; \\
    $b ls /proc | $b grep -c ^[0-9]; echo > /c/done
FROM tools
COPY --from=holder /bin/busybox /a
COPY --from=seeker /bin/busybox /b
"""


@pytest.mark.parametrize("options", [["--user", "USER"], ["--caps", "0,1,3,4,5,6,7,8,10,13,18,27,29,31"]])
def test_steps_that_see_each_others_processes_cannot_look_into_them(
    options: list[str], place: Place, user: str
) -> None:
    (place.folder / "key").write_text("hush-hush-hush")
    own(place, user if "USER" in options else "root")
    options = ["--mask-proc", *(word.replace("USER", user) for word in options)]
    _, said = place.build(options, SIDE_BY_SIDE, "--secret", f"id=key,src={place.folder}/key")
    assert "isolation: user namespace" in said
    assert "found a" not in [line.split(" ", 2)[-1][:7] for line in said.splitlines()]
