"""Secrets: there while the step runs, and nowhere after it."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.feature.project import Project

VALUE = f"hunter2-{os.urandom(12).hex()}"
FORMS = (VALUE.encode(), base64.b64encode(VALUE.encode())[:-4], VALUE.encode("utf-16-le"))


@pytest.fixture
def secret(project: Project) -> list[str]:
    """Options that give the secret as a file and as a variable."""
    (project.root / "value").write_text(VALUE)
    project.environment["TOKEN"] = VALUE
    return ["--secret", f"id=file,src={project.root}/value", "--secret", "id=token,env=TOKEN"]


def holds(folder: Path, name: str) -> bool:
    """Whether a file called `name` is below `folder`, where others may come and go meanwhile."""
    return any(name in files for _, _, files in os.walk(folder))


def holders(folder: Path) -> list[Path]:
    """The files under `folder` that hold the value, or have it in their name."""
    found = []
    for parent, folders, files in os.walk(folder):
        found += [Path(parent, name) for name in folders if VALUE in name]
        for path in (Path(parent, name) for name in files):
            # the step that runs may take it away; a subordinate user's file may be its own
            with suppress(FileNotFoundError, PermissionError):
                held = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                if VALUE in path.name or any(form in held for form in FORMS):
                    found.append(path)
    return found


USES = """
FROM busybox
RUN --mount=type=secret,id=file --mount=type=secret,id=token,env=TOKEN,required \
    test "$(cat /run/secrets/file)" = "$TOKEN" && cat /run/secrets/file && echo $TOKEN | wc -c > /length
RUN --mount=type=secret,id=file,target=/etc/token,mode=0444 test -s /etc/token
RUN ! test -e /run/secrets && ! test -e /etc/token && test -z "$TOKEN"
"""


def test_nothing_of_a_secret_is_kept_anywhere(project: Project, secret: list[str]) -> None:
    (project.root / "out").mkdir()
    out = project.root / "out"
    project.environment["MINIBUILD_CACHE_TRACE"] = "1"
    done = project.built(
        *secret, "-t", "local/uses", "--summary", f"{out}/summary", "--metadata-file", f"{out}/metadata",
        "-o", f"type=oci,tar=false,dest={out}/layout,compression=uncompressed",
        "-o", f"type=docker,dest={out}/docker.tar",
        "-o", f"type=local,dest={out}/rootfs", "-o", f"type=tar,dest={out}/rootfs.tar", text=USES,
    )  # fmt: skip
    assert VALUE not in done.err and "***" in done.step("wc -c")  # the step printed it
    for folder in (project.store, project.context, project.temporary, out):
        assert holders(folder) == []
    for command in (["history", "--no-trunc", "local/uses"], ["inspect", "local/uses"], ["builds", "ls"]):
        done = project.command(*command)
        assert VALUE not in done.out + done.err


def test_nothing_is_kept_of_a_step_that_fails_or_is_killed(project: Project, secret: list[str]) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=file --mount=type=secret,id=token,env=TOKEN {}\n"
    done = project.build(*secret, text=text.format("exit 3"))
    assert done.code == 1 and VALUE not in done.err
    assert holders(project.store) == []
    project.dockerfile(text.format("touch /started; sleep 60"))
    process = project.start("build", *project.base(), *secret, str(project.context))
    wait_for(lambda: holds(project.store, "started"))
    assert holders(project.store) == []  # not while it runs either
    process.kill()
    process.communicate()
    assert holders(project.store) == []
    project.command("cache", "gc")  # clears away what a killed build leaves


def wait_for(condition: object) -> None:
    assert callable(condition)
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened")


@pytest.mark.many_ids
def test_a_secret_file_is_the_owners_only_unless_asked(project: Project, secret: list[str]) -> None:
    text = """
    FROM busybox
    RUN --mount=type=secret,id=file stat -c '%a %u:%g' /run/secrets/file > /usual
    RUN --mount=type=secret,id=file,uid=7,gid=8,mode=0640,dst=/s stat -c '%a %u:%g' /s > /asked
    USER app
    RUN --mount=type=secret,id=file ! cat /run/secrets/file
    RUN --mount=type=secret,id=file,uid=1000 cat /run/secrets/file
    """
    image = project.image(*secret, text=text)
    assert (image.text("usual"), image.text("asked")) == ("400 0:0\n", "640 7:8\n")


def test_a_secret_file_cannot_be_written(project: Project, secret: list[str]) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=file,mode=0666 ! sh -c 'echo x > /run/secrets/file'\n"
    project.built(*secret, text=text)
    assert (project.root / "value").read_text() == VALUE


def test_a_secret_file_is_in_memory_and_names_nothing_of_the_host(
    project: Project, secret: list[str]
) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=secret,id=file grep /run/secrets/file /proc/self/mountinfo > /seen\n"
    )
    line = project.image(*secret, text=text).text("seen")
    assert " - tmpfs " in line and str(project.root) not in line


def test_a_required_secret_that_is_not_given_is_named(project: Project) -> None:
    done = project.build(text="FROM busybox\nRUN --mount=type=secret,id=gone,required true\n")
    assert done.code == 1
    assert "secret gone: not found" in done.error and "--secret id=gone,src=FILE" in done.error
    text = 'FROM busybox\nRUN --mount=type=secret,id=gone --mount=type=secret,id=n,env=N test -z "$N"\n'
    project.built(text=text)


def test_a_new_value_does_not_run_the_step_again(project: Project, secret: list[str]) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=file true\n"
    project.built(*secret, text=text)
    (project.root / "value").write_text("another")
    assert project.built(*secret).summary == (1, 1)


def test_another_build_at_the_same_time_does_not_see_it(project: Project, secret: list[str]) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=file touch /started; sleep 30\n"
    first = project.context / "First"
    first.write_text(text)
    running = project.start("build", *project.base(), *secret, "-f", str(first), str(project.context))
    try:
        wait_for(lambda: holds(project.store, "started"))
        look = f"! grep -rl {VALUE} /proc/*/environ /dev/shm /run /tmp && ps | wc -l > /processes"
        image = project.image(text=f"FROM busybox\nRUN {look}\n")
        assert int(image.text("processes")) <= 5
    finally:
        running.terminate()
        running.communicate()


def test_the_value_is_on_no_command_line(project: Project, secret: list[str]) -> None:
    mounts = "--mount=type=secret,id=file --mount=type=secret,id=token,env=TOKEN"
    project.dockerfile(f"FROM busybox\nRUN {mounts} touch /started; sleep 30\n")
    running = project.start("build", *project.base(), *secret, str(project.context))
    try:
        wait_for(lambda: holds(project.store, "started"))
        listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(project.context) in listed
        assert [line for line in listed.splitlines() if VALUE in line] == []
    finally:
        running.terminate()
        running.communicate()


def test_no_more_of_a_secret_is_read_than_tells_that_it_is_too_large(project: Project) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=s,required true\n"
    large = project.write("large")
    os.truncate(large, 1 << 38)
    done = project.build("--secret", f"id=s,src={large}", text=text)
    assert "secret s is larger than 500 KiB" in done.error
