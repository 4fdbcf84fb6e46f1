"""Builds of several stages: what is built, side by side, and what is left out."""

from __future__ import annotations

import os

import pytest

from tests.feature.project import Image, Project
from tests.servers.images import noise


def test_files_come_from_another_stage_and_nothing_else_of_it(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox AS build
        RUN mkdir /out && echo result > /out/file && echo rest > /rest
        FROM scratch
        COPY --from=build /out/file /file
        """
    )
    assert set(image.files) == {"file"}
    assert image.text("file") == "result\n"


def test_a_stage_can_be_named_by_number_and_built_on(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox AS first
        RUN echo 1 > /one
        FROM first
        RUN echo 2 > /two
        FROM scratch
        COPY --from=1 /one /two /
        """
    )
    assert (image.text("one"), image.text("two")) == ("1\n", "2\n")


def test_stages_that_the_target_does_not_need_are_not_built(project: Project) -> None:
    done = project.built(
        text="""
        FROM busybox AS unused
        RUN exit 1
        FROM busybox
        RUN true
        """
    )
    assert "exit 1" not in done.err


def test_target_ends_the_build_at_its_stage(project: Project) -> None:
    image = project.image(
        "--target", "Wanted",
        text="""
        FROM busybox AS wanted
        RUN echo here > /wanted
        FROM wanted
        RUN exit 1
        """,
    )  # fmt: skip
    assert image.text("wanted") == "here\n"


def test_stages_run_side_by_side(project: Project) -> None:
    """Each waits for a sign of the other, so one after the other would not do."""
    meet = (
        "touch /meet/{mine}; for i in $(seq 300); do test -e /meet/{other} && exit; sleep 0.1; done; exit 1"
    )
    project.built(
        text=f"""
        FROM busybox AS a
        RUN --mount=type=cache,id=meet,target=/meet {meet.format(mine="a", other="b")}
        FROM busybox AS b
        RUN --mount=type=cache,id=meet,target=/meet {meet.format(mine="b", other="a")}
        FROM scratch
        COPY --from=a /bin/busybox /a
        COPY --from=b /bin/busybox /b
        """
    )


def test_a_failing_stage_stops_the_others(project: Project) -> None:
    done = project.build(
        text="""
        FROM busybox AS slow
        RUN sleep 300
        FROM busybox AS failing
        RUN sleep 0.2; exit 9
        FROM scratch
        COPY --from=slow / /slow
        COPY --from=failing / /failing
        """
    )
    assert done.code == 1
    assert "exit code: 9" in done.error


def test_nothing_can_be_copied_from_nothing(project: Project) -> None:
    files = project.image(text="FROM busybox\nCOPY --from=scratch . /x\nCOPY --from=scratch / /y/\n").files
    assert {"x", "y"} <= set(files)


def chains(count: int) -> dict[str, str]:
    """Dockerfiles of `count` stages, each of which needs the one above it."""
    first = "FROM scratch AS s0\nCOPY a /\n"
    built_on = (f"FROM s{number} AS s{number + 1}\nENV A={number}\n" for number in range(count))
    copied = (f"FROM scratch AS s{number + 1}\nCOPY --from=s{number} / /\n" for number in range(count))
    return {"built on": first + "".join(built_on), "copied": first + "".join(copied)}


def test_a_chain_of_stages_may_be_longer_than_calls_nest(project: Project) -> None:
    project.write("a", "content")
    for text in chains(1_100).values():
        for option in ("--dry-run", "--check", "--call=outline", "--call=targets"):
            project.built(option, text=text)
    assert project.image(text=chains(1_100)["built on"]).text("a") == "content"
    assert project.image(text=chains(150)["copied"]).text("a") == "content"


def test_a_long_chain_of_stages_that_the_target_does_not_need_is_checked(project: Project) -> None:
    text = chains(1_100)["copied"] + "COPY --from=s1102 / /\nFROM scratch AS s1102\nCOPY --from=s1100 / /\n"
    failed = project.build(text=text + "FROM scratch\n")
    assert "circular dependency detected on stage: s110" in failed.err


@pytest.mark.parametrize("stages", [1, 60])
def test_a_named_context_needs_no_name_that_an_image_could_have(project: Project, stages: int) -> None:
    project.write("a", "other")
    project.write("given/a", "content")
    text = chains(stages)["built on"] + "COPY --from=My_Files a /\n"
    option = f"--build-context=My_Files={project.context / 'given'}"
    for chain in range(1, stages):
        text = text.replace(f"ENV A={chain}\n", "COPY --from=My_Files a /\n")
    assert project.image(option, text=text).text("a") == "content"
    project.built(option, text=text + "FROM scratch\n")


def test_a_copy_that_comes_upon_a_damaged_layer_makes_it_again_and_leaves_nothing(project: Project) -> None:
    """The smaller of two layers, which is put aside whole before the other is gone through."""
    project.write("one", noise(100_000))
    for name in ("two", "three"):
        project.write(f"more/{name}", noise(1000))
    text = "FROM scratch AS files\nCOPY one /\nCOPY more/ /\nFROM scratch\nCOPY --from=files / /{}\n"
    project.built("--target", "files", text=text.format(""))
    blob = max((project.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    project.built()
    before = blob.stat()
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(bytes(100))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = project.build("-o", f"type=oci,tar=false,dest={project.root}/out", text=text.format("there/"))
    assert done.code == 0, done.err
    assert "is gone or damaged; what made it runs again" in done.err
    assert {"there/one", "there/two", "there/three"} <= Image(project.root / "out").files.keys()
