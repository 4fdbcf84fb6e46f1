"""Runs handed to an OCI runtime: as if they were ours, contained by no less, and gone at the end."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from minibuild_store.store import Store

from minibuild.engine.trial import trial
from minibuild.errors import Cancelled, SandboxError
from minibuild.sandbox import bundle, capabilities, probe, seccomp_table, users
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.runtime import runtimes
from minibuild.sandbox.spec import ProcessSpec, SecretFile, TmpfsMount
from tests.feature.conftest import lacking
from tests.sandbox.conftest import Box, boxed

PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(params=["runc", "crun"], scope="module")
def handing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    name: str = request.param
    if shutil.which(name, path=PLACES) is None:
        if name == "runc":
            lacking("runc is not installed")
        pytest.skip(f"{name} is not installed")
    try:
        with Store.open(tmp_path_factory.mktemp("trial")) as store:
            started = Sandbox.start("oci", runtime=name, trial=lambda sandbox: trial(store, sandbox))
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error.message}")
    with started:
        yield started


@pytest.fixture
def other(handing: Sandbox, image: Path, tmp_path: Path) -> Iterator[Box]:
    """Like `box`, with a runtime."""
    with boxed(handing, image, tmp_path / "handed") as box:
        yield box


LOOK = """
id; pwd; umask; env | sort; hostname; cat /etc/hosts; ulimit -n; ulimit -c
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
stat -c '%n %F %a' /dev/* /proc/sys /sys /proc/1; ls /dev/shm /dev/mqueue
cat /proc/keys /proc/kcore 2>&1; echo x 2>&1 > /proc/sys/kernel/hostname
stat -c '%n %a %u:%g' /run/secrets/s; df /t | tail -1 | tr -s ' '; echo $$; ls -l /proc/self/fd | wc -l
"""


@pytest.mark.parametrize("user", ["", "app", "5:6"])
def test_a_process_finds_what_it_finds_without_a_runtime(box: Box, other: Box, user: str) -> None:
    mounts = (SecretFile("/run/secrets/s", b"x", 0o440, 1000, 1001), TmpfsMount("/t", 1 << 20))
    ours, theirs = (
        where.sh(LOOK, user=user, mounts=mounts, cwd="/tmp", hostname="abc") for where in (box, other)
    )
    assert theirs.out == ours.out
    assert theirs.code == ours.code


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "sleep 60 & kill -9 $!; wait $!"), 137),
        (("/nothing",), 127),
        (("nothing",), 127),
        (("/etc/passwd",), 126),
        (("/tmp",), 126),
    ],
)
def test_exit_codes_are_those_of_a_shell(other: Box, argv: tuple[str, ...], code: int) -> None:
    ran = other.run(*argv)
    assert ran.code == code, ran.err
    assert "json" not in ran.err and ran.err.count("\n") <= 1


def test_an_end_by_a_timeout_or_by_the_caller_leaves_nothing(other: Box) -> None:
    marker = f"59{os.getpid()}"
    script = f"setsid sleep {marker} & sleep {marker}"
    assert other.sh(script, timeout=1.0).status.timed_out
    cancel = threading.Event()
    timer = threading.Timer(1.0, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        other.sh(script, cancel=cancel)
    timer.join(10)
    assert not _processes(marker)
    assert str(other.folder) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/sys/fs/cgroup").glob("*/minibuild"))


def _processes(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_what_is_left_running_is_ended_with_the_process(other: Box) -> None:
    marker = f"57{os.getpid()}"
    assert other.sh(f"setsid sleep {marker} & true").code == 0
    assert not _processes(marker)


@pytest.mark.parametrize(
    ("script", "code"),
    [("echo up; sleep 60", 143), ("trap 'exit 5' TERM; echo up; while :; do sleep .1; done", 5)],
)
def test_signals_are_passed_on(other: Box, script: str, code: int) -> None:
    signals: SimpleQueue[int] = SimpleQueue()
    read, write = os.pipe()
    stop = threading.Thread(target=lambda: (os.read(read, 3), signals.put(15)))
    stop.start()
    spec = ProcessSpec(argv=("/bin/sh", "-c", script), env=(("PATH", "/bin"),), timeout=30)
    null = os.open("/dev/null", os.O_RDWR)
    try:
        status = other.sandbox.run(other.rootfs(), spec, stdio=(null, write, null), signals=signals)
    finally:
        os.close(write)
        stop.join(10)
        os.close(read)
        os.close(null)
    assert status.code == code


def test_a_terminal_is_one_inside(other: Box) -> None:
    ours, theirs = pty.openpty()
    ended = threading.Event()
    shown = []

    def read() -> None:
        while not ended.is_set():
            if select.select([ours], [], [], 0.1)[0]:
                shown.append(os.read(ours, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        os.write(ours, b"typed\n")
        ran = other.sh(
            "test -t 0 && test -t 1 && read word && echo got $word && echo on > /dev/tty; exit 4",
            stdio=(theirs, theirs, theirs),
            timeout=30,
        )
    finally:
        ended.set()
        reader.join(10)
        os.close(ours)
        os.close(theirs)
    assert ran.code == 4
    assert b"got typed\r\non\r\n" in b"".join(shown)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_of_the_image_cannot_be_opened(other: Box, new_image: Callable[[], Path]) -> None:
    image = new_image()
    os.mknod(image / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    rootfs = other.rootfs(image)
    ran = other.sh(
        "head -c1 /zero; mknod /null c 1 3 && echo x > /null; mknod /dev/n c 1 3 && echo > /dev/n",
        rootfs=rootfs,
    )
    assert ran.err.lower().count("permission denied") == 3, ran.err
    assert other.sh("head -c1 /zero | wc -c", rootfs=other.rootfs(image), insecure=True).out == "1\n"


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_pipe_in_place_of_a_user_file_does_not_hold_the_runtime_up(
    other: Box, new_image: Callable[[], Path], name: str
) -> None:
    image = new_image()
    (image / "etc" / name).unlink()
    os.mkfifo(image / "etc" / name)
    with pytest.raises(SandboxError, match="is not a regular file"):
        other.sh("true", rootfs=other.rootfs(image), timeout=30)


def test_a_mount_below_proc_is_refused(other: Box) -> None:
    for target in ("/proc/self/root/tmp", "/proc/1"):
        with pytest.raises(SandboxError, match="covers /proc"):
            other.sh("true", mounts=(TmpfsMount(target),))


def test_what_json_cannot_hold_is_refused(other: Box) -> None:
    with pytest.raises(SandboxError, match="not UTF-8"):
        other.sh("true", env=(("A", "\udcff"),))


def test_what_is_no_runtime_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no program nothing-of-the-kind"):
        runtimes("nothing-of-the-kind")
    with pytest.raises(SandboxError, match="is not an OCI runtime"):
        runtimes(shutil.which("true", path=PLACES) or "")
    broken = tmp_path / "runc"
    broken.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo runc version 9 || { echo broken >&2; exit 1; }\n"
    )
    broken.chmod(0o755)
    if not probe.ladder(probe.look(), "oci")[0]:
        return
    with Sandbox.start("oci", runtime=str(broken)) as sandbox:
        assert sandbox.mode.endswith("by runc 9")


def test_the_bundle_says_what_the_step_may() -> None:
    request = {"insecure": False, "ulimits": ((4, 0, -1),)}
    document = bundle.config(
        request,  # type: ignore[arg-type]
        root="/r",
        argv=("a", "b"),
        env={"A": "1"},
        cwd="/w",
        user=users.User(1, 2, (2, 3), "/"),
        capabilities=0,
        terminal=False,
    )
    process = json.loads(json.dumps(document))["process"]
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3], "umask": 0o022}
    assert len(process["capabilities"]["bounding"]) == capabilities.DEFAULT.bit_count() == 14
    assert process["capabilities"]["ambient"] == []
    assert {"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1} in process["rlimits"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_profile_allows_what_ours_allows(machine: str) -> None:
    rules = bundle.filters(machine)["syscalls"]
    names = {
        name for rule in rules if "args" not in rule and "ALLOW" in rule["action"] for name in rule["names"]
    }
    ours = {word.partition("=")[0] for word in seccomp_table.ALLOWED[machine].split()}
    assert ours <= names and not {"mount", "clone", "clone3", "unshare", "bpf", "keyctl"} & names
    assert bundle.filters("riscv64") == {}
