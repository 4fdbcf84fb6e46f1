"""Nothing outlives the sandbox: no process, no mount, however it ends."""

from __future__ import annotations

import _socket
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import MinibuildError, SandboxError
from minibuild.sandbox import holder, protocol
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import ProcessSpec
from tests.sandbox.conftest import Box

_CLIENT = """
import os, sys, threading, time
from pathlib import Path
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import ProcessSpec, Rootfs
image, folder = Path(sys.argv[1]), Path(sys.argv[2])
sandbox = Sandbox.start()
def run(number):
    upper, work = folder / f"u{number}", folder / f"w{number}"
    upper.mkdir(); work.mkdir()
    argv = ("/bin/sh", "-c", f"setsid sleep {sys.argv[3]} & echo up; sleep {sys.argv[3]}")
    spec = ProcessSpec(argv=argv, env=(("PATH", "/bin"),))
    sandbox.run(Rootfs((image,), upper, work), spec, output=lambda fd, data: os.write(1, b"up\\n"))
for number in range(2):
    threading.Thread(target=run, args=(number,)).start()
time.sleep(60)
"""


def processes(marker: str) -> list[int]:
    """Processes whose command line holds `marker`."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and marker.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    """Every descendant of `pid`."""
    try:
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*direct, *(below for child in direct for below in children(child))]


def wait_until(done: object, *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def client(box: Box) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process with a sandbox in which two runs sleep; a number that marks the runs."""
    marker = f"58{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, str(box.image), str(box.folder), marker],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    with process:
        try:
            for _run in range(2):
                assert process.stdout.readline() == "up\n"
            yield process, marker
        finally:
            process.kill()  # its threads would never end, nor would the end of this block


def test_killing_the_client_leaves_no_process(client: tuple[subprocess.Popen[str], str]) -> None:
    process, marker = client
    below = children(process.pid)
    wait_until(lambda: len(processes(marker)) >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes(marker))
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_killing_the_client_leaves_no_mount(client: tuple[subprocess.Popen[str], str], box: Box) -> None:
    process, _marker = client
    assert str(box.folder) not in Path("/proc/self/mountinfo").read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name in ("u0", "w0", "u1", "w1"):
        assert not os.path.ismount(box.folder / name)


@pytest.mark.parametrize("depth", [0, 1])
def test_killing_the_holder_ends_its_jobs(client: tuple[subprocess.Popen[str], str], depth: int) -> None:
    process, marker = client
    outer = children(process.pid)[0]
    os.kill([outer, *children(outer)][depth], signal.SIGKILL)
    wait_until(lambda: len(processes(marker)) == 1)  # the client itself


def test_a_worker_keeps_nothing_open_of_a_job_that_is_done(tmp_path: Path) -> None:
    with Sandbox.start() as sandbox:

        def held_after_a_job(number: int) -> int:
            sandbox.makedirs(tmp_path / str(number), mode=0o755, uid=0, gid=0)
            (worker,) = [pid for pid in children(sandbox._process.pid) if not children(pid)]
            return len(sockets(worker))

        assert len({held_after_a_job(number) for number in range(5)}) == 1


def open_files(pid: int | str) -> list[str]:
    """What the descriptors of a process lead to; nothing for one that is no more."""
    links = []
    with suppress(FileNotFoundError, PermissionError):  # of a process that ends
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links


def sockets(pid: int) -> set[str]:
    return {link for link in open_files(pid) if link.startswith("socket:")}


def test_a_worker_does_not_hold_the_line_to_another(tmp_path: Path) -> None:
    blob, folder = tmp_path / "blob", tmp_path / "layer"
    folder.mkdir()
    os.mkfifo(blob)
    writer = os.open(blob, os.O_RDWR)  # what reads from it waits until this is closed
    with Sandbox.start() as sandbox:

        def unpack() -> None:
            with suppress(MinibuildError):
                sandbox.unpack(blob, "", folder, Digest.of(b""))

        holder = children(sandbox._process.pid)[0]
        thread = threading.Thread(target=unpack)
        thread.start()
        try:
            wait_until(lambda: any(str(blob) in open_files(pid) for pid in children(holder)))
            sandbox.makedirs(tmp_path / "made", mode=0o755, uid=0, gid=0)
            first, second = sorted(children(holder))
        finally:
            os.close(writer)
            thread.join(10)
        wait_until(lambda: sockets(first) & sockets(holder) == sockets(second) & sockets(holder))


def test_what_waits_for_the_next_job_may_be_killed(box: Box, tmp_path: Path) -> None:
    with Sandbox.start() as sandbox:
        spec = ProcessSpec(argv=("/bin/true",))
        for number in range(2):
            assert sandbox.run(box.rootfs(), spec).code == 0
            holder = children(sandbox._process.pid)[0]
            wait_until(lambda: len(children(holder)) == 2)  # noqa: B023
            waiting = set(children(holder))
            for pid in waiting:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not waiting & set(children(holder)))  # noqa: B023
            sandbox.makedirs(tmp_path / f"made{number}")
            assert (tmp_path / f"made{number}").is_dir()


def opened(path: Path) -> int:
    """How often this process has a file open."""
    return open_files("self").count(str(path))


def test_more_tasks_than_workers_wait_for_their_turn(tmp_path: Path) -> None:
    most = max(2, os.cpu_count() or 1)
    with Sandbox.start() as sandbox:
        writers, threads, ended = [], [], []

        def unpack(number: int) -> None:
            with suppress(MinibuildError):  # of an empty blob
                sandbox.unpack(tmp_path / f"fifo{number}", "", tmp_path / f"to{number}", Digest.of(b""))
            ended.append(number)

        for number in range(most + 2):
            os.mkfifo(tmp_path / f"fifo{number}")
            (tmp_path / f"to{number}").mkdir()
            writers.append(os.open(tmp_path / f"fifo{number}", os.O_RDWR | os.O_CLOEXEC))
            threads.append(threading.Thread(target=unpack, args=(number,), daemon=True))
            threads[-1].start()
        holder = children(sandbox._process.pid)[0]
        wait_until(lambda: len(children(holder)) == most)
        wait_until(lambda: all(opened(tmp_path / f"fifo{number}") == 2 for number in range(most + 2)))
        for writer in writers:
            os.close(writer)
        for thread in threads:
            thread.join(10)
        assert sorted(ended) == list(range(most + 2))


def test_a_sandbox_whose_holder_died_says_so(box: Box) -> None:
    with Sandbox.start() as sandbox:
        rootfs = box.rootfs()
        spec = ProcessSpec(argv=("/bin/sleep", "60"))
        failures: list[BaseException] = []

        def run() -> None:
            try:
                sandbox.run(rootfs, spec)
            except SandboxError as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        before = set(children(os.getpid()))
        thread.start()
        wait_until(lambda: set(children(os.getpid())) - before)
        holder = sandbox._process.pid
        wait_until(lambda: len(children(holder)) >= 3)  # the inner one, a worker and the run
        below = children(holder)
        os.kill(holder, signal.SIGKILL)
        thread.join(10)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
        assert re.search("ended before its job", str(failures[0]))
        with pytest.raises(SandboxError, match="ended unexpectedly"):
            sandbox.run(box.rootfs(), spec)


def test_the_holder_outlives_a_worker_that_is_killed_before_it_takes_its_job() -> None:
    """The end of its line may be seen before its own; the job lies unread in there."""
    line, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    control, client = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    served = holder.Holder(control)
    child = holder.Child(protocol.TASK, os.getpid(), -1, line)
    try:
        served._by_line[line.fileno()] = child
        served._poll.register(line.fileno(), select.POLLIN)
        protocol.send_job(line, protocol.TASK, 1, ())
        theirs.close()
        served._done(child)
        assert child.line is None
    finally:
        for end in (line, theirs, control, client):
            end.close()
        for fd in (child.process_fd, served._pid_namespace):
            os.close(fd)


def test_closing_ends_running_jobs(box: Box) -> None:
    sandbox = Sandbox.start()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            sandbox.run(rootfs, ProcessSpec(argv=("/bin/sleep", "60")))
        except SandboxError as error:
            failures.append(error)

    rootfs = box.rootfs()
    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(children(sandbox._process.pid)) >= 3)
    sandbox.close()
    thread.join(10)
    assert len(failures) == 1


def test_a_closed_sandbox_says_so_and_may_be_closed_again(box: Box) -> None:
    sandbox = Sandbox.start()
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError, match="is closed"):
        sandbox.run(box.rootfs(), ProcessSpec(argv=("/bin/true",)))


def test_descriptors_are_given_back(box: Box) -> None:
    box.sh("true")
    before = os.listdir("/proc/self/fd")
    holder = children(box.sandbox._process.pid)[0]
    time.sleep(0.2)  # the holder closes a job's socket after it has said how the job ended
    theirs = len(os.listdir(f"/proc/{holder}/fd"))
    for _number in range(5):
        box.sh("true")
        with pytest.raises(SandboxError):
            box.run("/bin/true", cwd="/etc/passwd")
    assert os.listdir("/proc/self/fd") == before
    wait_until(lambda: len(os.listdir(f"/proc/{holder}/fd")) == theirs)


def test_it_may_be_started_in_a_thread_that_ends(box: Box) -> None:
    made: list[Sandbox] = []
    thread = threading.Thread(target=lambda: made.append(Sandbox.start()))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with made[0] as sandbox:
        assert sandbox.run(box.rootfs(), ProcessSpec(argv=("/bin/true",))).code == 0


@pytest.mark.many_ids
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_between_the_pivot_and_the_program_no_file_is_opened(box: Box, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    with Sandbox.start() as sandbox:
        holder = children(sandbox._process.pid)[0]
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", "trace=file,pivot_root", "-o", str(log), "-p", str(holder)],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        if tracer.poll() is not None:
            pytest.skip("strace may not trace here")
        spec = ProcessSpec(argv=("/bin/true",), user="app", mounts=())
        assert sandbox.run(box.rootfs(), spec).code == 0
    tracer.wait(10)
    lines = [line.split(None, 1) for line in log.read_text().splitlines()]
    child = next(pid for pid, call in lines if call.startswith("pivot_root"))
    calls = [call for pid, call in lines if pid == child and not call.startswith("<...")]
    start = next(place for place, call in enumerate(calls) if call.startswith("pivot_root"))
    end = next(place for place, call in enumerate(calls) if call.startswith("execve"))
    names = [call.split("(", 1)[0] for call in calls[start + 1 : end]]
    assert names == ["umount2", "openat", "chdir"]
    assert '"/dev/null"' in calls[start + 2]


def test_what_the_caller_left_open_for_its_children_is_let_go() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        with Sandbox.start():
            os.close(theirs)
            poll = select.poll()
            poll.register(ours, select.POLLIN)
            assert poll.poll(10_000) == [(ours, select.POLLHUP)]
    finally:
        os.close(ours)
