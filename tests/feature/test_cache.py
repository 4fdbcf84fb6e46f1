"""What is built again and what is not, and that the output says so."""

from __future__ import annotations

import os
import time

from tests.feature.project import Project

STEPS = """
FROM busybox
RUN cat /proc/sys/kernel/random/uuid > /stamp
COPY a.txt /a
RUN cat /a > /b
"""


def test_a_second_build_executes_nothing_and_gives_the_same_image(project: Project) -> None:
    project.write("a.txt", "a")
    first = project.image(text=STEPS)
    again = project.built()
    assert again.summary == (3, 3)
    assert project.image().digest == first.digest


def test_a_changed_file_is_named_and_what_precedes_it_stays_cached(project: Project) -> None:
    project.write("a.txt", "a")
    project.built(text=STEPS)
    project.write("a.txt", "other")
    done = project.built()
    assert done.cached("RUN cat /proc")
    assert "not cached: a.txt changed" in done.step("COPY a.txt")
    assert "not cached: " in done.step("RUN cat /a")
    assert done.summary == (3, 1)


def test_a_new_and_a_missing_file_are_named(project: Project) -> None:
    project.write("folder/a")
    project.built(text="FROM scratch\nCOPY folder /f\n")
    project.write("folder/fresh")
    assert "not cached: folder/fresh is new" in project.built().err
    (project.context / "folder/fresh").unlink()
    (project.context / "folder/a").rename(project.context / "folder/b")
    assert "not cached: " in project.built().err


def test_a_file_touched_or_written_anew_with_the_same_content_changes_nothing(project: Project) -> None:
    path = project.write("a.txt", "a")
    project.built(text=STEPS)
    os.utime(path, (1, 1))
    assert project.built().summary == (3, 3)
    path.unlink()
    project.write("a.txt", "a")
    assert project.built().summary == (3, 3)


def test_a_changed_argument_is_named_with_both_values(project: Project) -> None:
    text = "FROM busybox\nARG VERSION=1\nRUN echo $VERSION > /v\n"
    project.built(text=text)
    done = project.built("--build-arg", "VERSION=2")
    assert "VERSION" in done.step("RUN echo") and "1 → 2" in done.step("RUN echo")
    assert project.built().summary == (1, 1)


def test_an_argument_that_no_step_uses_changes_nothing(project: Project) -> None:
    text = "FROM busybox\nRUN echo > /v\nARG LATE\n"
    project.built(text=text)
    assert project.built("--build-arg", "LATE=2").summary == (1, 1)


def test_a_step_that_gives_the_same_bytes_again_lets_those_after_it_hit(project: Project) -> None:
    text = "FROM busybox AS a\nARG N\nRUN : $N; echo same > /out; touch -d @1 /out\nFROM busybox\n"
    text += "COPY --from=a /out /out\nRUN cat /out > /copy\n"
    project.built("--build-arg", "N=1", text=text)
    done = project.built("--build-arg", "N=2")
    assert not done.cached("echo same")
    assert done.cached("COPY --from=a") and done.cached("RUN cat /out")


def test_a_failed_step_keeps_what_came_before_and_the_next_build_resumes_there(project: Project) -> None:
    before = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /stamp\nCOPY a.txt /a\n"
    project.write("a.txt", "a")
    failed = project.build(text=before + "RUN exit 3\n")
    assert failed.code == 1
    done = project.built(text=before + "RUN exit 0\n")
    assert done.cached("RUN cat /proc") and done.cached("COPY a.txt")
    assert not done.cached("RUN exit 0")


def test_no_cache_executes_every_step(project: Project) -> None:
    project.write("a.txt", "a")
    first = project.image(text=STEPS)
    done = project.built("--no-cache")
    assert done.summary == (3, 0)
    assert project.image().text("stamp") != first.text("stamp")


def test_a_stage_of_no_cache_filter_that_is_not_there_is_told(project: Project) -> None:
    done = project.built("--no-cache-filter", "onne", text="FROM busybox AS one\nCOPY <<E /e\nx\nE\n")
    assert "--no-cache-filter onne: there is no such stage (did you mean one?)" in done.err


def test_no_cache_filter_executes_the_steps_of_a_stage(project: Project) -> None:
    text = "FROM busybox AS one\nRUN echo 1 > /1\nFROM busybox AS two\nRUN echo 2 > /2\n"
    text += "FROM scratch\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n"
    project.built(text=text)
    done = project.built("--no-cache-filter", "one")
    assert not done.cached("RUN echo 1")
    assert done.cached("RUN echo 2")


def test_two_builds_at_once_execute_a_step_once(project: Project) -> None:
    project.dockerfile("FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /stamp\n")
    arguments = ["build", *project.base(), "-q", str(project.context)]
    both = [project.start(*arguments) for _ in range(2)]
    ids = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert ids[0] == ids[1]


def test_the_seconds_that_the_cache_saved_are_told(project: Project) -> None:
    project.built(text="FROM busybox\nRUN sleep 0.3\n")
    start = time.monotonic()
    done = project.built()
    assert time.monotonic() - start < 60
    assert "1 step, 1 cached" in done.err and "s saved" in done.err
