"""RUN --mount=type=ssh: an agent that the step may use, and no more than that."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feature.conftest import lacking
from tests.feature.programs import copy_program
from tests.feature.project import Project, files_below

LIST = "SSH_AUTH_SOCK=${AGENT:-$SSH_AUTH_SOCK} ssh-add -l"


@pytest.fixture
def key(project: Project) -> Path:
    """A key outside the context, and an image's worth of ssh-add in it."""
    if shutil.which("ssh-keygen") is None:
        lacking("openssh-client is not installed")
    copy_program("ssh-add", project.context / "tools")
    project.dockerfile("FROM busybox\nCOPY tools /\n", "Base")
    project.built("-f", str(project.context / "Base"), "-t", "local/ssh")
    return new_key(project, "key")


def new_key(project: Project, name: str, passphrase: str = "", kind: str = "ed25519") -> Path:
    path = project.root / name
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", f"comment of {name}", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def agent(project: Project, key: Path) -> Iterator[Path]:
    """An agent of the caller's, with the key in it."""
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", "agent"], cwd=project.root, stdout=subprocess.DEVNULL
    )
    path = project.root / "agent"
    try:
        while not path.exists():
            assert process.poll() is None
        environment = {**os.environ, "SSH_AUTH_SOCK": "agent"}
        add = ["ssh-add", "-q", str(key)]
        for _ in range(100):  # the socket is there a moment before somebody listens
            if subprocess.run(add, cwd=project.root, env=environment, check=False).returncode == 0:
                break
            time.sleep(0.05)
        else:
            pytest.fail("ssh-agent does not answer")
        yield path
    finally:
        process.terminate()
        process.wait()


def seen(project: Project, *options: str, run: str) -> str:
    """What a step on the image with ssh-add prints."""
    done = project.built("--progress=plain", "--no-cache", *options, text=f"FROM local/ssh\n{run}\n")
    return done.step(run.rpartition(" ")[2])


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_file_is_served_while_the_step_runs_only(project: Project, key: Path, kind: str) -> None:
    other = new_key(project, f"{kind}-key", kind=kind)
    out = seen(project, "--ssh", f"default={key},{other}", run=f"RUN --mount=type=ssh {LIST}")
    assert "comment of key" in out and f"comment of {kind}-key" in out
    assert not subprocess.run(["pgrep", "-f", f"ssh-agent.*{project.root}"], capture_output=True).stdout


def test_the_callers_agent_is_forwarded(project: Project, agent: Path) -> None:
    run = f"RUN --mount=type=ssh {LIST}"
    assert "comment of key" in seen(project, "--ssh", f"default={agent}", run=run)
    project.environment["SSH_AUTH_SOCK"] = str(agent)
    assert "comment of key" in seen(project, "--ssh", "default", run=run)


@pytest.mark.many_ids
def test_the_socket_has_owner_mode_and_place_as_asked(project: Project, key: Path) -> None:
    out = seen(
        project, "--ssh", f"default={key}", "--ssh", f"two={key}",
        run="RUN --mount=type=ssh --mount=type=ssh,id=two,uid=7,gid=8,mode=0640"
        " --mount=type=ssh,id=two,target=/tmp/s,uid=1000"
        " echo $SSH_AUTH_SOCK; stat -c '%n %F %u:%g %a' /run/buildkit/* /tmp/s",
    )  # fmt: skip
    assert " /run/buildkit/ssh_agent.0\n" in out
    assert "/run/buildkit/ssh_agent.0 socket 0:0 600" in out
    assert "/run/buildkit/ssh_agent.1 socket 7:8 640" in out
    assert "/tmp/s socket 1000:0 600" in out


def test_a_user_of_the_image_may_use_a_socket_that_is_his(project: Project, key: Path) -> None:
    run = f"RUN --mount=type=ssh,uid=1000 {LIST}"
    done = project.built("--ssh", f"default={key}", text=f"FROM local/ssh\nUSER app\n{run}\n")
    assert "comment of key" in done.step("-l")


@pytest.mark.parametrize("command", ["ssh-add -D", "ssh-add -x < /pass", "ssh-add /key"])
def test_the_agent_can_be_used_not_changed(project: Project, agent: Path, key: Path, command: str) -> None:
    project.write("key", new_key(project, "other").read_bytes(), mode=0o600)
    text = f"""
    FROM local/ssh
    COPY key /key
    RUN printf 'a\\na\\n' > /pass
    RUN --mount=type=ssh ! {command} && ssh-add -l
    """
    done = project.built("--ssh", f"default={agent}", text=text)
    assert "comment of key" in done.step("-l")
    listed = subprocess.run(
        ["ssh-add", "-l"], cwd=project.root, env={"SSH_AUTH_SOCK": "agent"}, capture_output=True, text=True
    )
    assert "comment of key" in listed.stdout and "comment of other" not in listed.stdout


def test_a_required_agent_that_nobody_forwards_fails_and_another_is_left_out(project: Project) -> None:
    done = project.build(text="FROM busybox\nRUN --mount=type=ssh,id=x,required true\n")
    assert done.code == 1
    assert 'no SSH key "x" forwarded from the client' in done.error and "--ssh x=KEYFILE" in done.error
    image = project.image(text="FROM busybox\nRUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK && echo > /ok\n")
    assert "ok" in image.files and not any(path.startswith("run/") for path in image.layer(-1))


def test_a_key_with_a_passphrase_is_refused_with_the_way_out(project: Project, key: Path) -> None:
    locked = new_key(project, "locked", "hushhush")
    done = project.build("--ssh", f"default={locked}", text="FROM local/ssh\nRUN --mount=type=ssh true\n")
    assert done.code == 2
    assert "it has a passphrase" in done.error and "--ssh default" in done.error


def test_an_agent_that_is_gone_is_said_before_the_step(project: Project) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(project.root / "dead"))
    done = project.build(
        "--ssh", f"default={project.root}/dead", text="FROM busybox\nRUN --mount=type=ssh true\n"
    )
    assert done.code == 2
    assert "no ssh agent answers at" in done.error


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("default", "SSH_AUTH_SOCK is not set"),
        ("x=/no/such/key", "no such file"),
        ("x=/no,/such", "no such file"),
    ],
)
def test_a_wrong_option_is_refused(project: Project, option: str, words: str) -> None:
    done = project.build("--ssh", option, text="FROM busybox\n")
    assert done.code == 2 and words in done.error


def test_no_byte_of_the_key_is_left(project: Project, key: Path) -> None:
    secret = key.read_bytes().splitlines()[2]
    project.built("--ssh", f"default={key}", text=f"FROM local/ssh\nRUN --mount=type=ssh {LIST}\n")
    kept = files_below(project.store)
    assert kept and not [path for path in kept if secret in path.read_bytes()]
