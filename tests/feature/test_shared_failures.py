"""A step that fails while other builds wait for it: they take the failure, and later builds run it again."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.store import Store

from minibuild import Builder
from minibuild.cache.collect import collect
from minibuild.cache.eviction import Policy
from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, HostVolume, Secret
from minibuild.errors import MinibuildError, RunFailed
from minibuild.events import Event, StepOutput
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.executor import Executor
from tests.feature.project import Done, Project, kill

WAIT = 90.0  # seconds; what takes longer hangs
# Runs until there is a file /signs/end, and then what that says.
HELD = "echo ran >> /signs/runs; echo one; echo two >&2; i=0; " + (
    "until test -e /signs/end || test $((i=i+1)) -gt 600; do sleep 0.1; done; . /signs/end"
)
TAKEN = "ran this step, and it failed, while this build waited for it; it printed:"


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Contest:
    """Builds on one store of a step that runs until it is told how to end."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.processes: list[subprocess.Popen[bytes]] = []
        self._signs = project.root / "signs"
        self._signs.mkdir()
        self.write(f"FROM busybox\nRUN {HELD}\n")

    def write(self, text: str) -> None:
        self.project.dockerfile(text)

    @property
    def runs(self) -> int:
        """How often the step was begun."""
        runs = self._signs / "runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    @property
    def notes(self) -> list[str]:
        with Store.open(self.project.store) as store:
            return list(store.records("failures").names())

    @property
    def waiting(self) -> int:
        """How many hold a lock together with others (proc_locks(5)), which is what those do that wait."""
        folder = self.project.store / "locks-v1"
        ours = {str(entry.inode()) for entry in os.scandir(folder)} if folder.is_dir() else set()
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return sum(
            line[1] == "FLOCK" and line[3] == "READ" and line[5].rpartition(":")[2] in ours for line in lines
        )

    def start(self, *options: str, **more: Any) -> subprocess.Popen[bytes]:
        project = self.project
        arguments = ["build", "--progress=plain", *project.base(), "-v", f"{self._signs}:/signs", *options]
        process = project.start(*arguments, str(project.context), **more)
        self.processes.append(process)
        return process

    def first(self, *options: str) -> subprocess.Popen[bytes]:
        """A build that is at work on the step."""
        runs = self.runs
        process = self.start(*options)
        self.running(runs + 1)
        return process

    def others(self, count: int, *options: str, **more: Any) -> list[subprocess.Popen[bytes]]:
        """Builds that wait for it."""
        before = self.waiting
        processes = [self.start(*options, **more) for _ in range(count)]
        until(lambda: self.waiting == before + count, "they do not wait")
        return processes

    def running(self, runs: int) -> None:
        until(lambda: self.runs >= runs, f"run {runs} does not begin")

    def end(self, command: str) -> None:
        """Let the step go on, and all after it, with `command`."""
        (self._signs / "new").write_text(command)
        (self._signs / "new").rename(self._signs / "end")

    def hold(self) -> None:
        """Let it wait again."""
        (self._signs / "end").unlink()

    def request(self, **options: Any) -> BuildRequest:
        request = BuildRequest.of(self.project.context)
        return replace(
            request,
            contexts={"busybox": f"oci-layout://{self.project.bases}:busybox"},
            volumes=(HostVolume(self._signs, "/signs"),),
            **options,
        )


def ended(process: subprocess.Popen[bytes]) -> Done:
    out, err = process.communicate(timeout=WAIT)
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def contest(project: Project) -> Iterator[Contest]:
    made = Contest(project)
    yield made
    for process in made.processes:
        process.send_signal(signal.SIGCONT)
        kill(process)


def test_builds_that_wait_for_a_step_that_fails_do_not_run_it(contest: Contest) -> None:
    both = [contest.first(), *contest.others(2)]
    contest.end("exit 3")
    assert [ended(one).code for one in both] == [1, 1, 1]
    assert contest.runs == 1


def test_they_end_with_the_error_of_the_one_that_ran_it(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    contest.end("exit 3")
    assert "did not complete successfully: exit code: 3" in (error := ended(first).error)
    assert ended(second).error == error


def test_they_show_what_it_printed_and_that_another_build_ran_it(contest: Contest) -> None:
    contest.first()
    [second] = contest.others(1)
    contest.end("echo three; exit 3")
    lines = [line.partition(" ")[2].partition(" ")[2] for line in ended(second).step("RUN echo").splitlines()]
    assert lines[1].startswith("build ") and lines[1].endswith(TAKEN)
    # a build that is slow to read may read "three" before what came through the other pipe
    assert sorted(lines[2:5]) == ["one", "three", "two"] and lines.index("one") < lines.index("three")


def test_the_build_that_they_name_is_found(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    contest.end("exit 3")
    name = ended(second).err.partition(TAKEN)[0].split()[-1]
    assert ended(first).code == 1
    shown = contest.project.command("builds", "show", name)
    assert shown.code == 0 and "exit code: 3" in shown.out


def test_a_later_build_runs_the_step_again(contest: Contest) -> None:
    builds = [contest.first(), *contest.others(1)]
    contest.end("exit 3")
    assert [ended(one).code for one in builds] == [1, 1]
    contest.end("exit 0")
    assert ended(contest.start()).code == 0
    assert contest.runs == 2


def test_so_does_one_that_comes_while_others_have_yet_to_take_the_failure(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    second.send_signal(signal.SIGSTOP)
    contest.end("exit 3")
    assert ended(first).code == 1
    assert contest.notes
    contest.end("exit 0")
    assert ended(contest.start()).code == 0
    assert contest.runs == 2
    second.send_signal(signal.SIGCONT)
    assert ended(second).cached("RUN echo")


def test_who_begins_to_wait_after_a_failure_does_not_take_it(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    second.send_signal(signal.SIGSTOP)
    contest.end("exit 3")
    assert ended(first).code == 1
    contest.hold()
    third, [fourth] = contest.first(), contest.others(1)
    assert contest.notes
    third.send_signal(signal.SIGINT)
    contest.running(3)
    contest.end("exit 0")
    second.send_signal(signal.SIGCONT)
    assert ended(third).code != 0
    assert [ended(second).code, ended(fourth).code] == [0, 0]


def test_the_last_that_waits_removes_the_note(contest: Contest) -> None:
    builds = [contest.first(), *contest.others(2)]
    builds[1].send_signal(signal.SIGSTOP)
    contest.end("exit 3")
    assert [ended(builds[0]).code, ended(builds[2]).code] == [1, 1]
    assert contest.notes
    builds[1].send_signal(signal.SIGCONT)
    assert ended(builds[1]).code == 1
    assert not contest.notes


def test_a_failure_that_nobody_waits_for_leaves_no_note(contest: Contest) -> None:
    contest.end("exit 3")
    assert ended(contest.start()).code == 1
    assert not contest.notes


def test_a_collection_removes_notes_of_builds_that_were_killed(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    second.send_signal(signal.SIGSTOP)
    contest.end("exit 3")
    assert ended(first).code == 1
    kill(second)
    assert contest.notes
    with Store.open(contest.project.store) as store:
        collect(store, Policy())
    assert not contest.notes


def test_no_value_of_a_secret_is_handed_on(contest: Contest) -> None:
    token = contest.project.root / "token"
    token.write_text("hunter2-hunter2")
    contest.write(
        "FROM busybox\nRUN --mount=type=secret,id=token tr a-z b-za < /run/secrets/token > /turned\n"
        f"RUN {HELD.replace('echo one', 'tr b-za a-z < /turned')}\n"
    )
    first, [second] = contest.first("--secret", f"id=token,src={token}"), contest.others(1)
    contest.end("tr b-za a-z < /turned; exit 3")
    assert "hunter2" not in ended(first).err
    done = ended(second)
    assert TAKEN in done.err and done.err.count("***") == 2 and "hunter2" not in done.err


def test_threads_of_one_process_take_it_from_each_other(contest: Contest) -> None:
    found: list[BaseException] = []

    def one() -> None:
        try:
            builder.build(contest.request())
        except RunFailed as error:
            found.append(error)

    with Builder(contest.project.store) as builder:
        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        contest.running(1)
        until(lambda: contest.waiting == 2, "they do not wait")
        contest.end("exit 3")
        for thread in threads:
            thread.join(WAIT)
    assert [error.exit_code for error in found if isinstance(error, RunFailed)] == [3, 3, 3]
    assert contest.runs == 1


STAGES = f"""
FROM busybox AS one
RUN {HELD}
FROM busybox AS two
RUN {HELD}
FROM busybox
COPY --from=one /etc /1
COPY --from=two /etc /2
"""


def test_stages_of_one_build_take_it_from_each_other(contest: Contest) -> None:
    contest.write(STAGES)
    process = contest.first("--keep-going")
    until(lambda: contest.waiting == 1, "the other stage does not wait")
    contest.end("exit 3")
    done = ended(process)
    assert f"another stage {TAKEN}" in done.err
    assert contest.runs == 1


def test_a_build_that_stops_at_its_first_failure_tells_of_one(contest: Contest) -> None:
    contest.write(STAGES)
    process = contest.first()
    until(lambda: contest.waiting == 1, "the other stage does not wait")
    contest.end("exit 3")
    done = ended(process)
    assert "exit code: 3" in done.error and TAKEN not in done.err
    assert contest.runs == 1


@pytest.mark.parametrize(
    "option",
    [
        "--step-timeout=600s",
        "--ulimit=nofile=100",
        "--dns=192.0.2.1",
        "--build-arg=http_proxy=http://192.0.2.1",
        "--allow=security.insecure",
    ],
)
def test_a_build_with_other_options_runs_the_step_itself(contest: Contest, option: str) -> None:
    builds = [contest.first(), *contest.others(1, option)]
    contest.end("exit 3")
    assert [ended(one).code for one in builds] == [1, 1]
    assert contest.runs == 2


def test_so_does_one_whose_own_limits_are_others(contest: Contest) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("this user's limit is the lowest already")
    builds = [contest.first(), *contest.others(1, preexec_fn=lower)]
    contest.end("exit 3")
    assert [ended(one).code for one in builds] == [1, 1]
    assert contest.runs == 2


def test_so_does_one_that_may_run_on_other_processors(contest: Contest) -> None:
    contest.first()
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:1])
    try:
        [second] = contest.others(1)
    finally:
        os.sched_setaffinity(0, processors)
    contest.end("exit 3")
    assert (TAKEN in ended(second).err) == (len(processors) == 1)


@pytest.mark.parametrize("command", ["exit 130", "sh -c 'kill -9 $$'", "sh -c 'kill -15 $$'"])
def test_that_a_signal_ended_the_command_is_no_affair_of_others(contest: Contest, command: str) -> None:
    builds = [contest.first(), *contest.others(1)]
    contest.end(command)
    assert [ended(one).code for one in builds] == [1, 1]
    assert contest.runs == 2


def test_a_build_that_is_interrupted_leaves_the_step_to_those_that_wait(contest: Contest) -> None:
    first, [second] = contest.first(), contest.others(1)
    first.send_signal(signal.SIGINT)
    contest.running(2)
    contest.end("exit 0")
    assert ended(first).code != 0
    assert ended(second).code == 0


class Waited(threading.Event):
    """What a build asks now and then whether it is to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def is_set(self) -> bool:
        self.asked += 1
        return super().is_set()


def runs_itself(contest: Contest, **options: Any) -> None:
    """Two builds with `options`, the second begun while the first is at work on the step, run it each."""
    on_failure = options.pop("on_failure", None)
    errors: list[BaseException] = []
    shown: list[bytes] = []
    waited = Waited()

    def one(cancel: threading.Event | None, sink: Callable[[Event], None]) -> None:
        with Store.open(contest.project.store) as store:
            try:
                build(
                    contest.request(**options), store=store, sink=sink, cancel=cancel, on_failure=on_failure
                )
            except MinibuildError as error:
                errors.append(error)

    def see(event: Event) -> None:
        if isinstance(event, StepOutput):
            shown.append(event.data)

    first = threading.Thread(target=one, args=(None, lambda event: None))
    second = threading.Thread(target=one, args=(waited, see))
    first.start()
    try:
        contest.running(1)
        second.start()
        until(lambda: waited.asked > 40, "it does not wait")
    finally:
        contest.end("exit 3")
    first.join(WAIT)
    second.join(WAIT)
    assert [error.exit_code for error in errors if isinstance(error, RunFailed)] == [3, 3]
    assert contest.runs == 2
    assert b"one\n" in b"".join(shown)


def test_a_step_with_a_secret_is_run_by_every_build(contest: Contest) -> None:
    contest.write(f"FROM busybox\nRUN --mount=type=secret,id=token {HELD}\n")
    runs_itself(contest, secrets=(Secret("token", value=b"secret value"),))


def test_so_is_one_with_a_secret_that_it_was_not_given(contest: Contest) -> None:
    contest.write(f"FROM busybox\nRUN --mount=type=secret,id=token {HELD}\n")
    runs_itself(contest)


def test_so_is_one_with_an_ssh_agent(contest: Contest) -> None:
    contest.write(f"FROM busybox\nRUN --mount=type=ssh {HELD}\n")
    runs_itself(contest)


def test_so_is_one_without_cache(contest: Contest) -> None:
    runs_itself(contest, no_cache=True)


def test_so_is_one_that_somebody_wants_to_look_at(contest: Contest) -> None:
    runs_itself(contest, on_failure=lambda failed: None)


def test_so_is_one_whose_processes_a_program_runs_itself(contest: Contest) -> None:
    def executor(sandbox: Sandbox) -> Executor:
        return sandbox

    runs_itself(contest, executor=executor)
