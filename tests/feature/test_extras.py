"""What no other builder has: steps that expire, bases with less, folders of this machine in RUN."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.feature.project import Project


def test_build_arguments_come_from_a_file(project: Project) -> None:
    file = project.write("args", '# remark\nA=1\n\n  B = "2"\nC\nD=x=y\n')
    text = "FROM busybox\nARG A\nARG C\nARG D\nLABEL a=$A c=$C d=$D\n"
    done = project.build("--build-arg-file", str(file), text=text)
    assert (done.code, "line 4" in done.error) == (2, True)  # a name with a blank
    file.write_text("# remark\nA=1\nC\nD=x=y\n")
    image = project.image("--build-arg-file", str(file), "--build-arg", "A=2", environment={"C": "env"})
    assert image.config["Labels"] == {"a": "2", "c": "env", "d": "x=y"}


def test_a_file_of_build_arguments_that_is_not_there(project: Project) -> None:
    done = project.build("--build-arg-file", "/not/there", text="FROM busybox\n")
    assert (done.code, "--build-arg-file /not/there" in done.error) == (2, True)


BASE = """
FROM busybox
ENV KEEP=1 DROP=2
LABEL a=1 b=2
VOLUME /data /other
EXPOSE 80 443/udp
ENTRYPOINT ["x"]
"""


def test_what_a_base_sets_can_be_taken_away(project: Project) -> None:
    project.built("-t", "base", text=BASE)
    image = project.image(
        "--unset-env", "DROP", "--unset-label", "a", "--unset-volume", "/data/", "--unset-expose", "80",
        "--unset-entrypoint",
        text="FROM base\nRUN echo drop=$DROP keep=$KEEP > /seen\nEXPOSE 81\n",
    )  # fmt: skip
    assert image.text("seen") == "drop= keep=1\n"
    assert "KEEP=1" in image.config["Env"] and not any("DROP" in entry for entry in image.config["Env"])
    assert image.config["Labels"] == {"b": "2"}
    assert image.config["Volumes"] == {"/other": {}}
    assert set(image.config["ExposedPorts"]) == {"443/udp", "81/tcp"}
    assert image.config.get("Entrypoint") is None


def test_only_the_base_of_the_target_loses_anything(project: Project) -> None:
    project.built("-t", "base", text=BASE)
    image = project.image(
        "--unset-env", "D*",
        text="FROM base AS other\nRUN echo $DROP > /f\nFROM base AS own\nFROM own\nCOPY --from=other /f /f\n",
    )  # fmt: skip
    assert image.text("f") == "2\n"
    assert not any("DROP" in entry for entry in image.config["Env"])


def test_what_is_not_there_to_be_taken_away_is_said(project: Project) -> None:
    done = project.built("--unset-volume", "/none", text="FROM busybox\nRUN true\n")
    assert "WARNING: --unset-volume /none: the base sets none of that name" in done.err


def test_a_folder_of_this_machine_in_run(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "host folder"
    folder.mkdir()
    (folder / "f").write_text("host")
    text = "FROM busybox\nRUN cat /mnt/host/f > /seen; echo new > /mnt/host/made\n"
    image = project.image("-v", f"{folder}:/mnt/host", text=text)
    assert image.text("seen") == "host"
    assert (folder / "made").read_text() == "new\n"
    assert not any(path.startswith("mnt/host") for path in image.files)


def test_what_is_in_a_folder_of_this_machine_is_in_no_key_but_its_name_is(
    project: Project, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    text = "FROM busybox\nRUN ls /v > /seen\n"
    first = project.built("-v", f"{tmp_path}/one:/v:ro", text=text)
    assert "NOTE: every RUN sees" in first.err
    (tmp_path / "one" / "new").touch()
    again = project.built("-v", f"{tmp_path}/one:/v:ro")
    assert again.summary == (1, 1)
    assert "no cache key knows what is in it" in again.err
    assert project.built("-v", f"{tmp_path}/two:/v:ro").summary == (1, 0)
    assert project.built("-v", f"{tmp_path}/one:/v").summary == (1, 0)


def test_a_read_only_folder_of_this_machine_stays_as_it_is(project: Project, tmp_path: Path) -> None:
    done = project.build("-v", f"{tmp_path}:/v:ro", text="FROM busybox\nRUN touch /v/made\n")
    assert done.code == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["x", "/x", "/:relative", "/:/", "/:/x:rx", "/not/there:/x", ":/x"])
def test_a_malformed_volume_is_refused(project: Project, text: str) -> None:
    done = project.build("-v", text, text="FROM busybox\n")
    assert (done.code, f"-v {text}" in done.error) == (2, True)


@contextlib.contextmanager
def an_hour_later() -> Iterator[None]:
    moment = time.time() + 3600
    with mock.patch("minibuild.engine.lookup.time.time", return_value=moment):
        yield


def test_a_step_expires(project: Project) -> None:
    text = "FROM busybox\n# minibuild: ttl=30m\nRUN cat /proc/sys/kernel/random/uuid > /now\nRUN true\n"
    project.built(text=text)
    assert project.built().summary == (2, 2)
    with an_hour_later():
        done = project.built()
        assert "not cached: its result is older than its ttl" in done.step("RUN cat")
        assert not done.cached("RUN true")
        assert project.built().summary == (2, 2)


def test_an_expired_step_with_the_same_result_lets_the_rest_hit(project: Project) -> None:
    project.built(text="FROM busybox\n# minibuild: ttl=59m\nRUN mkdir -p /etc\nRUN true\n")
    with an_hour_later():
        done = project.built()
    assert (done.cached("RUN mkdir"), done.cached("RUN true")) == (False, True)


def test_a_long_ttl_hits(project: Project) -> None:
    project.built(text="FROM busybox\n# about RUN\n# minibuild: ttl=1w2d3h4m5.5s\nRUN true\n")
    assert project.built().summary == (1, 1)


def test_a_comment_keeps_a_step_from_the_cache(project: Project) -> None:
    project.built(text="FROM busybox\nRUN true\n# minibuild: no-cache\nRUN :\n")
    done = project.built()
    assert (done.cached("RUN true"), done.cached("RUN :")) == (True, False)
    assert "not to be cached" in done.step("RUN :")


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("ttl=soon", "ttl=soon is not known"),
        ("no-chache", "no-chache is not known (did you mean no-cache?)"),
        ("ttl", "ttl is not known"),
    ],
)
def test_a_comment_that_is_not_understood_is_an_error(project: Project, comment: str, words: str) -> None:
    done = project.build(text=f"FROM busybox\n# minibuild: {comment}\nRUN true\n")
    assert (done.code, words in done.error) == (1, True)
    assert ">>> RUN true" in done.error


def test_a_comment_above_what_executes_nothing_is_an_error(project: Project) -> None:
    done = project.build(text="FROM busybox\n# minibuild: no-cache\nENV A=1\n")
    assert "above ENV, which executes nothing" in done.error


def test_single_steps_are_kept_from_the_cache(project: Project) -> None:
    text = "FROM busybox AS one\nRUN echo 1\nFROM one\nRUN echo 2\nRUN echo 3\n"
    project.built(text=text)

    def executed(*names: str) -> list[str]:
        done = project.built(*(word for name in names for word in ("--no-cache-step", name)))
        return [words for words in ("echo 1", "echo 2", "echo 3") if not done.cached(f"RUN {words}")]

    assert executed() == []
    assert executed("2") == ["echo 3"]
    assert executed("one:2") == ["echo 1"]
    assert executed("echo 2") == ["echo 2"]
    assert executed("ECHO") == ["echo 1", "echo 2", "echo 3"]


def test_a_step_that_is_not_there_is_refused(project: Project) -> None:
    done = project.build("--no-cache-step", "9", text="FROM busybox\nRUN true\n")
    assert (done.code, "--no-cache-step 9: no step of this build" in done.error) == (2, True)


def test_annotations_are_in_the_manifest_of_every_output(project: Project) -> None:
    image = project.image(
        "--annotation", "a=1:2=3", "--annotation", "manifest-descriptor:b=2", text="FROM busybox\nRUN true\n"
    )
    assert image.manifest["annotations"] == {"a": "1:2=3"}
    (entry,) = json.loads((image.layout / "index.json").read_bytes())["manifests"]
    assert entry["annotations"]["b"] == "2"


@pytest.mark.parametrize("text", ["x", "=x", "manifest:x", "index:a=b"])
def test_an_annotation_that_cannot_be_made_is_refused(project: Project, text: str) -> None:
    done = project.build("--annotation", text, text="FROM busybox\n")
    assert (done.code, bool(done.error)) == (2, True)


@pytest.mark.parametrize("option", ["--annotation=index:a=b", "-otype=oci,dest=x.tar,annotation-index.a=b"])
def test_an_index_that_is_not_made_is_refused_before_a_step_runs(project: Project, option: str) -> None:
    done = project.build(option, text="FROM busybox\nRUN true\n")
    assert "has no index to annotate" in done.error
    assert "RUN true" not in done.err


def test_the_host_name_of_run(project: Project) -> None:
    text = "FROM busybox\nRUN hostname > /name\n"
    assert project.image("--hostname", "forge", text=text).text("name") == "forge\n"
    image = project.image("--hostname", "forge", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other")
    assert image.text("name") == "other\n"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--cgroup-parent=x", "a RUN is held by --memory and --cpus"),
        ("--rm", "there are no intermediate containers"),
        ("--load", "the image is in minibuild's store"),
    ],
)
def test_options_of_docker_that_are_not_supported_say_what_to_do(
    project: Project, option: str, words: str
) -> None:
    done = project.build(option, text="FROM busybox\n")
    assert done.code == 2
    assert f"{option.partition('=')[0]}: {words}" in done.err


def test_a_mistyped_option_is_suggested(project: Project) -> None:
    done = project.build("--tagret=x", text="FROM busybox\n")
    assert done.code == 2
    assert re.search(r"Did you mean.*--target", done.err)


def test_the_volume_option_takes_a_relative_folder(project: Project) -> None:
    project.write("sub/f", "relative")
    before = os.getcwd()
    os.chdir(project.context)
    try:
        image = project.image("-v", "./sub:/v", text="FROM busybox\nRUN cat /v/f > /seen\n")
    finally:
        os.chdir(before)
    assert image.text("seen") == "relative"


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_an_index_of_one_platform_is_refused(project: Project, value: str) -> None:
    done = project.build("--build-arg", f"BUILDKIT_MULTI_PLATFORM={value}", text="FROM busybox\n")
    assert (done.code, f"BUILDKIT_MULTI_PLATFORM={value}" in done.error) == (2, True)


def test_buildkit_arguments_that_mean_nothing_here_are_taken(project: Project) -> None:
    names = (
        "BUILDKIT_SYNTAX=docker/dockerfile:1",
        "BUILDKIT_MULTI_PLATFORM=0",
        "BUILDKIT_SBOM_SCAN_STAGE=true",
    )
    options = [word for name in names for word in ("--build-arg", name)]
    done = project.built(*options, text="# syntax=example/none\nFROM busybox\nRUN true\n")
    assert "WARNING" not in done.err
