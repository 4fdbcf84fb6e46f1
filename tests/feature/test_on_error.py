"""--on-error: a look at the step that failed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feature.project import Project

FAILS = """
FROM busybox
WORKDIR /home/app
ENV COLOUR=blue
USER app
RUN --mount=type=secret,id=tok,uid=1000 --mount=type=tmpfs,target=/t echo made > /tmp/made; exit 42
"""
OPEN = b"exit ends the build."
PROMPT = b"$ "


class Typist:
    """A command on a terminal of its own, and someone who reads it and types."""

    def __init__(self, project: Project, *arguments: str) -> None:
        command = [sys.executable, "-m", "minibuild", *arguments]
        environment = {**project.variables(), "TERM": "vt100"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.seen = b""
        self._place = 0

    def wait_for(self, words: bytes, seconds: float = 30.0) -> str:
        """What is shown up to `words`."""
        end = time.monotonic() + seconds
        while words not in self.seen[self._place :]:
            assert time.monotonic() < end, self.seen.decode(errors="replace")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError(self.seen.decode(errors="replace")) from None
        begin, self._place = self._place, self.seen.index(words, self._place) + len(words)
        return self.seen[begin : self._place].decode(errors="replace")

    def say(self, text: str) -> str:
        """Type a line at the prompt; what the shell prints until it is ready again."""
        mark = f"end{len(self.seen)}"
        os.write(self.fd, f"{text}; echo {mark[:3]}''{mark[3:]}\n".encode())
        return self.wait_for(mark.encode())

    def end(self, seconds: float = 60.0) -> int:
        """Read the rest; the exit code."""
        end = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # the terminal is closed
            while time.monotonic() < end:
                if select.select([self.fd], [], [], 0.1)[0]:
                    data = os.read(self.fd, 65536)
                    if not data:
                        break
                    self.seen += data
            else:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(params=["plain", "tty"])
def shell(project: Project, request: pytest.FixtureRequest) -> Iterator[Typist]:
    project.dockerfile(FAILS)
    project.environment["tok"] = "hush"
    typist = Typist(
        project, "build", *project.base(), f"--progress={request.param}", "--on-error=shell",
        "--secret", "id=tok", str(project.context),
    )  # fmt: skip
    yield typist
    with contextlib.suppress(OSError):
        os.close(typist.fd)


def test_the_shell_is_where_the_command_was_and_the_failure_stays(shell: Typist) -> None:
    assert "exit code: 42" in shell.wait_for(OPEN)
    shell.wait_for(PROMPT)
    said = shell.say(
        "id -un; pwd; echo $COLOUR; cat /run/secrets/tok; cat /tmp/made; grep -c ' /t ' /proc/mounts"
    )
    assert "app\r\n/home/app\r\nblue\r\nhushmade\r\n1\r\n" in said
    os.write(shell.fd, b"exit 0\n")
    assert shell.end() == 1
    rest = shell.seen.decode()
    assert rest.count("did not complete successfully: exit code: 42") >= 2


def test_it_is_a_real_terminal_with_job_control(shell: Typist) -> None:
    shell.wait_for(OPEN)
    shell.wait_for(PROMPT)
    assert "yes" in shell.say("test -t 0 && test -t 1 && echo y''es")
    assert "job control turned off" not in shell.seen.decode()
    os.write(shell.fd, b"echo st''art; sleep 300\n")
    shell.wait_for(b"start\r\n")
    time.sleep(0.5)
    os.write(shell.fd, b"\x03")  # ends the sleep and neither the shell nor the build
    shell.wait_for(PROMPT)
    assert "alive" in shell.say("echo al''ive")
    shell.wait_for(PROMPT)  # before it, the end of input would be lost to the change of terminal modes
    os.write(shell.fd, b"\x04")
    assert shell.end() == 1


def test_nothing_the_shell_does_is_kept(project: Project, shell: Typist) -> None:
    shell.wait_for(OPEN)
    shell.wait_for(PROMPT)
    shell.say("echo x > /tmp/by-hand; (sleep 54321 &)")
    os.write(shell.fd, b"exit\n")
    assert shell.end() == 1
    assert not [names for _, _, names in os.walk(project.store) if "by-hand" in names]


def test_other_stages_stop_and_stay_silent(project: Project) -> None:
    project.dockerfile("FROM busybox AS slow\nRUN sleep 60\n" + FAILS + "COPY --from=slow /bin/sh /x\n")
    project.environment["tok"] = "hush"
    shell = Typist(
        project, "build", *project.base(), "--on-error=shell", "--secret", "id=tok", str(project.context)
    )
    shell.wait_for(OPEN)
    shell.wait_for(PROMPT)
    said = shell.say("sleep 1")
    assert "slow" not in said and "#" not in said
    os.write(shell.fd, b"exit\n")
    assert shell.end() == 1


def test_without_a_terminal_there_is_no_shell(project: Project) -> None:
    project.dockerfile(FAILS)
    done = project.process("build", *project.base(), "--on-error=shell", str(project.context))
    assert done.code == 2 and "--on-error=export" in done.error


def test_a_build_that_works_opens_nothing(project: Project) -> None:
    project.built(f"--on-error=export={project.root}/x.tar", text="FROM busybox\nRUN true\n")
    assert not (project.root / "x.tar").exists()


def test_the_files_of_the_failed_step_are_exported(project: Project) -> None:
    project.environment["tok"] = "hush" * 4
    file = project.root / "failed.tar"
    text = FAILS.replace("exit 42", "rm /old/a; mkdir /tmp/d; ln -s made /tmp/l; exit 42").replace(
        "USER app\n", ""
    )
    done = project.build(f"--on-error=export={file}", "--secret", "id=tok", text=text)
    assert done.code == 1
    assert f"are in {file}" in done.err and "exit code: 42" in done.error
    with tarfile.open(file) as archive:
        names = {name.strip("/") for name in archive.getnames()}
        made = archive.extractfile("tmp/made")
        assert made is not None and made.read() == b"made\n"
    assert {"tmp/d", "tmp/l", "bin/busybox", "home/app"} <= names
    assert not {"old/a", "run/secrets/tok", "t"} & names
    assert b"hush" * 4 not in file.read_bytes()


def test_a_step_that_cannot_be_exported_fails_as_it_did(project: Project) -> None:
    (project.root / "closed").mkdir(mode=0o555)
    file = project.root / "gone" / "x.tar"
    file.parent.mkdir()
    text = "FROM busybox\nRUN touch /.wh.bad; false\n"  # no layer can say that
    done = project.build(f"--on-error=export={file}", text=text)
    assert done.code == 1 and "exit code: 1" in done.error
    assert "--on-error: " in done.err and not file.exists()


@pytest.mark.parametrize("value", ["sell", "export=", "export=/no/such/folder/x.tar", "shell=x"])
def test_a_wrong_value_is_refused(project: Project, value: str) -> None:
    done = project.build(f"--on-error={value}", text="FROM busybox\n")
    assert done.code == 2 and "--on-error" in done.error


def test_the_library_shows_the_failed_step_to_its_caller(project: Project, tmp_path: Path) -> None:
    import minibuild
    from minibuild.engine.failure import FailedStep

    seen: list[tuple[str, int]] = []

    def look(step: FailedStep) -> None:
        read, write = os.pipe()
        status = step.shell((read, write, 2), argv=("/bin/cat", "/made"))
        os.close(write)
        seen.append((os.read(read, 100).decode(), status.code))
        os.close(read)

    project.dockerfile("FROM busybox\nRUN echo left > /made; false\n")
    contexts = {"busybox": f"oci-layout://{project.bases}:busybox"}
    request = minibuild.BuildRequest(context=project.context, contexts=contexts)
    with minibuild.Store.open(project.store) as store, pytest.raises(minibuild.RunFailed):
        minibuild.build(request, store=store, on_failure=look)
    assert seen == [("left\n", 0)]
