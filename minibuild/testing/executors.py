"""What every executor keeps to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from minibuild.errors import Cancelled, UsageError
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.executor import Executor
from minibuild.sandbox.spec import ExitStatus, FolderMount, ProcessSpec, Rootfs, SecretFile, TmpfsMount
from minibuild.values import NamedTuple

_WAIT = 60.0  # seconds; what takes longer hangs


class Ran(NamedTuple):
    """How a process ended and what it wrote."""

    status: ExitStatus
    out: str
    err: str


class Runner:
    """Runs shell scripts by an executor, each on a root filesystem of its own unless one is given."""

    def __init__(self, executor: Executor, sandbox: Sandbox, image: Path, folder: Path) -> None:
        self.executor = executor
        self._sandbox = sandbox
        self._image = image
        self._folder = folder
        self._numbers = iter(range(1, 1000))

    def rootfs(self, *lowers: Path) -> Rootfs:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        rootfs = Rootfs(lowers or (self._image,), self._sandbox.form.make(folder / "upper"), folder / "work")
        rootfs.work.mkdir(mode=0o700)
        return rootfs

    def sh(self, script: str, *, rootfs: Rootfs | None = None, **options: Any) -> Ran:
        return self.run("/bin/sh", "-c", script, rootfs=rootfs, **options)

    def run(self, *argv: str, rootfs: Rootfs | None = None, **options: Any) -> Ran:
        how: dict[str, Any] = {}
        for name in ("stdio", "cancel", "signals"):
            if name in options:
                how[name] = options.pop(name)
        options.setdefault("env", (("PATH", "/bin"),))
        options.setdefault("timeout", _WAIT)
        written: dict[int, list[bytes]] = {1: [], 2: []}
        if "stdio" not in how:
            how["output"] = lambda stream, data: written[stream].append(data)
        status = self.executor.run(rootfs or self.rootfs(), ProcessSpec(argv=argv, **options), **how)
        return Ran(status, b"".join(written[1]).decode(), b"".join(written[2]).decode())


class ExecutorContract:
    """Give two fixtures.

    `image`: a folder with an unpacked root filesystem that has a shell and its usual commands in /bin, and a
    user ``app`` with the ids 1000 and 1001 in /etc/passwd. `executor`: the executor; it may use `sandbox`.
    """

    @pytest.fixture
    def sandbox(self) -> Iterator[Sandbox]:
        """minibuild's own, in the best mode that works here."""
        with Sandbox.start() as sandbox:
            yield sandbox

    @pytest.fixture
    def runner(self, executor: Executor, sandbox: Sandbox, image: Path, tmp_path: Path) -> Iterator[Runner]:
        folder = tmp_path / "run"
        folder.mkdir()
        yield Runner(executor, sandbox, image, folder)
        sandbox.remove(folder)
        executor.close()

    def test_it_says_what_it_is(self, runner: Runner) -> None:
        text = runner.executor.describe()
        assert text and "\n" not in text

    def test_the_exit_code_is_the_process_own(self, runner: Runner) -> None:
        assert [runner.sh(f"exit {code}").status.code for code in (0, 1, 77)] == [0, 1, 77]

    def test_signals_are_passed_on_and_give_128_and_their_number(self, runner: Runner) -> None:
        signals: SimpleQueue[int] = SimpleQueue()
        signals.put(signal.SIGTERM)
        assert runner.sh("sleep 600", signals=signals).status.code == 128 + signal.SIGTERM

    def test_both_streams_arrive_whole_and_apart(self, runner: Runner) -> None:
        done = runner.sh("i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done")
        assert done.out.splitlines() == [f"out {number}" for number in range(3000)]
        assert done.err.splitlines() == [f"err {number}" for number in range(3000)]

    def test_descriptors_that_are_given_are_the_process_own(self, runner: Runner) -> None:
        there, back = os.pipe(), os.pipe()
        try:
            os.write(there[1], b"asked\n")
            runner.sh("read word; echo got $word", stdio=(there[0], back[1], back[1]))
            assert os.read(back[0], 100) == b"got asked\n"
        finally:
            for fd in (*there, *back):
                os.close(fd)

    def test_a_program_that_is_not_there_gives_127_and_is_named(self, runner: Runner) -> None:
        done = runner.run("/no/such/program")
        assert done.status.code == 127 and "/no/such/program" in done.err

    def test_variables_and_folder_are_those_asked_for(self, runner: Runner) -> None:
        done = runner.sh('echo "$A $PWD"', env=(("PATH", "/bin"), ("A", "b c")), cwd="/etc")
        assert done.out == "b c /etc\n"

    def test_the_user_is_looked_up_in_the_image(self, runner: Runner) -> None:
        if "no effect" in runner.executor.describe():
            return  # a namespace of a single id has but one user, and says so
        assert runner.sh("id -u; id -g", user="app").out.split() == ["1000", "1001"]
        assert runner.sh("id -u; id -g", user="7:8").out.split() == ["7", "8"]

    def test_a_user_that_is_not_there_is_an_error(self, runner: Runner) -> None:
        with pytest.raises(UsageError, match="nobody-knows"):
            runner.sh("true", user="nobody-knows")

    def test_changes_go_to_the_upper_folder_alone(self, runner: Runner, image: Path) -> None:
        before = sorted(os.listdir(image))
        rootfs = runner.rootfs()
        assert runner.sh("echo new > /made; rm /etc/passwd", rootfs=rootfs).status.code == 0
        assert (rootfs.upper / "made").read_text() == "new\n"
        assert sorted(os.listdir(image)) == before and (image / "etc/passwd").is_file()

    def test_another_process_on_the_same_filesystem_sees_them(self, runner: Runner) -> None:
        rootfs = runner.rootfs()
        runner.sh("echo new > /made; rm /etc/passwd", rootfs=rootfs)
        done = runner.sh("cat /made; test -e /etc/passwd || echo gone", rootfs=rootfs)
        assert done.out == "new\ngone\n"

    def test_upper_layers_hide_lower_ones(self, runner: Runner, image: Path, tmp_path: Path) -> None:
        above = tmp_path / "above"
        (above / "etc").mkdir(parents=True)
        above.chmod(0o755)
        (above / "etc/passwd").write_text("hidden\n")
        rootfs = runner.rootfs(image, above)
        assert runner.sh("cat /etc/passwd; test -e /etc/group && echo below", rootfs=rootfs).out == (
            "hidden\nbelow\n"
        )

    def test_secrets_are_files_of_their_mode_and_leave_nothing(self, runner: Runner) -> None:
        rootfs = runner.rootfs()
        secret = SecretFile("/run/secrets/token", b"hush", 0o400)
        done = runner.sh("cat /run/secrets/token; ls -l /run/secrets/token", rootfs=rootfs, mounts=(secret,))
        assert done.out.startswith("hush-r--------")
        assert b"hush" not in b"".join(path.read_bytes() for path in files(rootfs.upper))

    def test_folders_of_the_machine_keep_what_is_written(self, runner: Runner, tmp_path: Path) -> None:
        cache = tmp_path / "run" / "cache"
        cache.mkdir()
        mount = FolderMount("/cache", cache, False, 0o755, 0, 0)
        rootfs = runner.rootfs()
        assert runner.sh("echo kept > /cache/file", rootfs=rootfs, mounts=(mount,)).status.code == 0
        assert runner.sh("cat /cache/file", mounts=(mount,)).out == "kept\n"
        assert not [path for path in files(rootfs.upper) if path.name == "file"]

    def test_what_is_in_memory_is_gone_afterwards(self, runner: Runner) -> None:
        rootfs = runner.rootfs()
        mounts = (TmpfsMount("/scratch"),)
        assert runner.sh("echo x > /scratch/file", rootfs=rootfs, mounts=mounts).status.code == 0
        assert not [path for path in files(rootfs.upper) if path.name == "file"]

    def test_a_process_that_takes_too_long_is_ended(self, runner: Runner) -> None:
        done = runner.sh("sleep 600", timeout=0.3)
        assert done.status.timed_out and done.status.code

    def test_cancelling_ends_it_soon(self, runner: Runner) -> None:
        cancel = threading.Event()
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        start = time.monotonic()
        with pytest.raises(Cancelled):
            runner.sh("sleep 600", cancel=cancel)
        timer.join()
        assert time.monotonic() - start < _WAIT

    def test_what_it_leaves_running_is_ended(self, runner: Runner) -> None:
        rootfs = runner.rootfs()
        done = runner.sh("(while :; do date > /alive; sleep 0.05; done) & sleep 0.2", rootfs=rootfs)
        assert done.status.code == 0
        before = (rootfs.upper / "alive").stat().st_mtime_ns
        time.sleep(0.3)
        assert (rootfs.upper / "alive").stat().st_mtime_ns == before

    def test_several_run_at_once(self, runner: Runner) -> None:
        found: dict[int, str] = {}

        def run(number: int) -> None:
            found[number] = runner.sh(f"sleep 0.1; echo {number}").out

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_WAIT)
        assert found == {number: f"{number}\n" for number in range(4)}

    def test_it_may_be_closed_twice(self, executor: Executor) -> None:
        executor.close()
        executor.close()


def files(folder: Path) -> list[Path]:
    """The regular files below a folder that may be read."""
    found = (Path(base, name) for base, _, names in os.walk(folder) for name in names)
    return [path for path in found if path.is_file() and os.access(path, os.R_OK)]
