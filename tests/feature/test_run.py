"""`run`: the image's command in the sandbox, as if it were an ordinary program."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.feature.project import Project

TEXT = """
FROM busybox
ENV NAME=image
WORKDIR /tmp
USER app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -un; pwd; echo $NAME"]
"""


@pytest.fixture
def image(project: Project) -> Project:
    project.built("-t", "app", text=TEXT)
    return project


def test_entrypoint_and_command_run_as_the_image_says(image: Project) -> None:
    done = image.process("run", "app")
    assert (done.code, done.out, done.err) == (0, "app\n/tmp\nimage\n", "")


def test_arguments_replace_the_command_and_options_the_rest(image: Project) -> None:
    assert image.process("run", "app", "echo mine").out == "mine\n"
    done = image.process(
        "run", "--rm", "-e", "NAME=option", "-u", "root", "-w", "/var", "-h", "box", "app",
        "id -un; pwd; echo $NAME; hostname",
    )  # fmt: skip
    assert done.out == "root\n/var\noption\nbox\n"
    assert image.process("run", "--entrypoint", "/bin/echo", "app", "-n", "only").out == "only"


def test_a_program_on_a_terminal_learns_its_kind(image: Project) -> None:
    done = image.process("run", "-t", "app", "echo $TERM", environment={"TERM": "vt100"})
    assert done.out == "vt100\n"
    assert image.process("run", "-t", "-e", "TERM=mine", "app", "echo $TERM").out == "mine\n"


def test_the_exit_code_is_the_programs(image: Project) -> None:
    assert image.process("run", "app", "exit 42").code == 42
    assert image.process("run", "--entrypoint", "/no/such", "app").code == 127
    assert image.process("run", "--entrypoint", "/old/a", "-u", "root", "app").code == 126


def test_output_and_errors_keep_apart_and_input_is_passed_on_with_i(image: Project) -> None:
    done = image.process("run", "app", "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")
    assert image.process("run", "-i", "app", "cat", stdin=b"typed").out == "typed"
    assert image.process("run", "app", "cat", stdin=b"typed").out == ""


def test_what_it_writes_is_gone_the_next_time(image: Project) -> None:
    assert image.process("run", "app", "echo x > /tmp/made && test -e /tmp/made").code == 0
    assert image.process("run", "app", "test -e /tmp/made").code == 1


@pytest.mark.parametrize(("given", "note"), [("8080:8080", "port 8080"), ("127.0.0.1:80:8080", "not on 80")])
def test_a_published_port_is_explained(image: Project, given: str, note: str) -> None:
    done = image.process("run", "-p", given, "app", "true")
    assert done.code == 0
    assert (
        done.err.startswith(f"NOTE: -p {given}: the image uses this machine's network") and note in done.err
    )


def _started(project: Project, script: str) -> subprocess.Popen[bytes]:
    """The image running `script`, which has said that it is ready."""
    process = project.start("run", "app", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    out, err = process.communicate(timeout=60)
    assert err == b""
    return process.returncode, out


WAIT = "while :; do sleep 0.05; done"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_reaches_the_program_and_its_answer_counts(image: Project, name: str) -> None:
    process = _started(image, f"trap 'echo got {name}; exit 7' {name}; echo ready; {WAIT}")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert _end(process) == (7, f"got {name}\n".encode())


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130)])
def test_a_program_that_does_not_catch_a_signal_ends_by_it(image: Project, name: str, code: int) -> None:
    process = _started(image, f"echo ready; {WAIT}")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert _end(process) == (code, b"")


def test_a_program_that_ignores_a_signal_goes_on_until_it_is_asked_three_times(image: Project) -> None:
    process = _started(image, f"trap '' TERM; echo ready; {WAIT}")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert _end(process) == (143, b"")


def test_processes_that_it_started_end_with_it(image: Project) -> None:
    marker = f"86400.{os.getpid()}"
    process = image.process("run", "app", f"sleep {marker} & echo started")
    assert process.out == "started\n"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert marker.encode() not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_an_image_without_a_command_says_so(project: Project) -> None:
    project.built("-t", "empty", *project.base("bare"), text="FROM bare\nRUN true\n")
    done = project.command("run", "empty")
    assert done.code == 2
    assert (
        done.error == "ERROR: empty:latest has neither ENTRYPOINT nor CMD\nSay what to run behind its name."
    )


def test_a_user_that_the_image_lacks_is_named(image: Project) -> None:
    done = image.command("run", "-u", "nobody2", "app", "true")
    assert done.code == 2
    assert "unable to find user nobody2" in done.error
