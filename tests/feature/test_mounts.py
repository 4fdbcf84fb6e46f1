"""RUN --mount: what the command sees, and what is left of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.feature.project import Image, Project

SECRET = "hunter2-" + "swordfish"


def test_a_bind_mount_shows_the_context_and_leaves_no_trace(project: Project) -> None:
    project.write("in.txt", "from the context")
    image = project.image(
        text="""
        FROM busybox
        RUN --mount=type=bind,source=in.txt,target=/mnt/in.txt cp /mnt/in.txt /copied
        """
    )
    assert image.text("copied") == "from the context"
    assert not any(path.startswith("mnt") for path in image.layer(-1))


def test_the_callers_umask_has_no_say_in_the_modes_that_a_command_finds(project: Project) -> None:
    text = """
        FROM busybox
        RUN --mount=type=bind,from=scratch,target=/empty stat -c "%a %n" / /empty /sys/firmware > /modes
        """
    before = os.umask(0o077)
    try:
        image = project.image(text=text)
    finally:
        os.umask(before)
    assert image.text("modes") == "755 /\n755 /empty\n755 /sys/firmware\n"


def test_what_a_writable_bind_mount_takes_is_thrown_away(project: Project) -> None:
    project.write("folder/file", "old")
    image = project.image(
        text="""
        FROM busybox
        RUN --mount=type=bind,source=folder,target=/m,rw echo new > /m/file && cat /m/file > /seen
        """
    )
    assert image.text("seen") == "new\n"
    assert (project.context / "folder/file").read_text() == "old"


def test_a_bind_mount_shows_another_stage(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox AS tools
        RUN echo tool > /tool
        FROM busybox
        RUN --mount=from=tools,target=/tools cp /tools/tool /used
        """
    )
    assert image.text("used") == "tool\n"


def test_a_change_of_what_is_mounted_runs_the_step_again_and_only_that(project: Project) -> None:
    project.write("used", "1")
    project.write("unused", "1")
    text = "FROM busybox\nRUN --mount=source=used,target=/used cat /used > /seen\n"
    project.built(text=text)
    project.write("unused", "2")
    assert project.built().summary == (1, 1)
    project.write("used", "2")
    assert project.image().text("seen") == "2"


def test_a_cache_mount_lasts_from_build_to_build_and_stays_out_of_the_image(project: Project) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/log; cp /c/log /log\n"
    first = project.image("--build-arg", "N=1", text=text)
    second = project.image("--build-arg", "N=2", text=text)
    assert first.text("log") == "1\n"
    assert second.text("log") == "1\n2\n"
    assert "c/log" not in second.files


def test_a_tmpfs_mount_is_empty_and_gone_afterwards(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox
        RUN --mount=type=tmpfs,target=/old ls -A /old > /seen; echo lost > /old/lost
        """
    )
    assert image.text("seen") == ""
    assert "old/lost" not in image.files and "old/a" in image.files


@pytest.mark.parametrize("source", ["src", "env"])
def test_a_secret_reaches_the_command_and_nothing_else(project: Project, source: str) -> None:
    file = project.root / "secret"
    file.write_text(SECRET)
    option = f"id=word,src={file}" if source == "src" else "id=word,env=WORD"
    text = """
    FROM busybox
    RUN --mount=type=secret,id=word --mount=type=secret,id=word,env=INSIDE \\
        test "$(cat /run/secrets/word)" = "$INSIDE" && cat /run/secrets/word | wc -c > /length
    """
    layout = project.root / "layout"
    options = ["--secret", option, "-o", f"type=oci,tar=false,dest={layout}", "-t", "kept"]
    project.dockerfile(text)
    done = project.build(*options, environment={"WORD": SECRET})
    assert done.code == 0, done.err
    image = Image(layout)
    assert image.text("length").strip() == str(len(SECRET))
    assert SECRET not in done.err + done.out + project.command("history", "--no-trunc", "kept").out
    for number in range(len(image.diff_ids)):
        assert SECRET.encode() not in image.tar(number)
    file.unlink()
    assert not _holding(SECRET.encode(), project.root)


def _holding(word: bytes, folder: Path) -> list[Path]:
    """The files below `folder` that hold `word`, as far as this user may read them."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(PermissionError):
            if path.is_file() and not path.is_symlink() and word in path.read_bytes():
                found.append(path)
    return found


def test_a_secret_that_changes_does_not_run_the_step_again(project: Project) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=word cat /run/secrets/word | wc -c > /length\n"
    project.dockerfile(text)
    for word in ("one", "three"):
        done = project.build("--secret", "id=word", environment={"word": word})
        assert done.code == 0, done.err
    assert done.summary == (1, 1)


@pytest.mark.many_ids
def test_a_secret_has_the_mode_and_owner_asked_for(project: Project) -> None:
    project.dockerfile(
        """
        FROM busybox
        RUN --mount=type=secret,id=word,target=/word,mode=0440,uid=7,gid=8 stat -c '%a %u %g' /word > /seen
        """
    )
    image = project.image("--secret", "id=word", environment={"word": "x"})
    assert image.text("seen") == "440 7 8\n"
    assert "word" not in image.files


def test_an_empty_context_shows_nothing_of_a_step_that_left_nothing(project: Project) -> None:
    project.built(text="FROM busybox\nRUN touch /etc/x && rm /etc/x\n")
    project.write(".dockerignore", "*\n")
    image = project.image(text="FROM busybox\nRUN --mount=target=/m ls -A /m >/seen\n")
    assert image.text("seen") == ""
