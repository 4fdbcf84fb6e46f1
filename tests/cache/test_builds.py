"""The records that builds leave, and what is told from them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.cache.align import aligned
from minibuild.cache.builds import BuildRecord, Builds, critical_path
from minibuild.cache.journal import Journal, StageRow, StepRow
from minibuild.cache.retention import forget_oldest
from tests.feature.project import Project

TEXT = """
FROM busybox AS slow
RUN sleep 0.4
FROM busybox AS quick
RUN true
FROM busybox
COPY a.txt /a
COPY --from=slow /bin/sh /sh
COPY --from=quick /bin/sh /sh2
"""


@pytest.fixture
def built(project: Project) -> Project:
    project.write("a.txt", "a")
    project.built("-t", "one", text=TEXT)
    return project


def records(project: Project) -> list[BuildRecord]:
    with Store.open(project.store) as store:
        return Builds(store).all()


def test_every_build_leaves_a_record_of_its_steps(built: Project) -> None:
    built.built()
    after, before = records(built)
    assert [row.hit for row in before.steps] == [False] * 5
    assert [row.hit for row in after.steps] == [True] * 5
    assert after.saved >= 0.4 and before.bytes > 0 and after.bytes == 0
    assert before.tags == ("docker.io/library/one:latest",)


def test_a_failed_build_leaves_one_too_and_is_not_what_the_next_is_explained_by(built: Project) -> None:
    built.write("a.txt", "b")
    assert built.build(text=TEXT + "RUN false\n").code == 1
    assert records(built)[0].status == "failed" and "false" in records(built)[0].error
    built.write("a.txt", "c")
    done = built.built(text=TEXT)
    assert "a.txt changed" in done.step("COPY a.txt")


def test_the_critical_path_is_the_chain_that_took_the_time(built: Project) -> None:
    names = [row.name for row in critical_path(records(built)[0])]
    assert any("sleep" in name for name in names) and not any("true" in name for name in names)
    assert "COPY --from=quick" in names[-1]


def test_a_step_waits_for_what_it_reads_and_not_for_what_later_steps_read() -> None:
    def row(stage: str, number: int, start: float, seconds: float, *waits: str) -> StepRow:
        name = f"{stage} {number}"
        return StepRow(stage, number, name, name, name, False, start, seconds, 0.0, 0, "", waits=waits)

    stages = (StageRow("base", "scratch", ("a",)), StageRow("slow", "stage base", ("b",)))
    last = StageRow("last", "scratch", ("c", "d", "e"), ("slow",), True)
    steps = [row("base", 0, 0, 1), row("slow", 0, 1, 9), row("last", 0, 0, 4), row("last", 1, 4, 1)]
    steps.append(row("last", 2, 10, 2, "slow"))
    record = BuildRecord(
        "id", "\nDockerfile\n", "Dockerfile", 0, 12, "done", "", "", (), (*stages, last), tuple(steps)
    )
    assert [step.name for step in critical_path(record)] == ["base 0", "slow 0", "last 2"]
    assert record.to_json()["critical_seconds"] == 12


def test_a_step_that_ran_beside_others_is_on_the_critical_path_only_if_it_ended_last() -> None:
    def row(number: int, start: float, seconds: float) -> StepRow:
        return StepRow("only", number, str(number), "", "", False, start, seconds, 0.0, 0, "")

    stages = (StageRow("only", "scratch", ("a", "b", "c"), (), True),)
    for beside, path in ((2, ["0", "2"]), (11, ["1", "2"])):
        steps = (row(0, 0, 10), row(1, 1, beside), row(2, 12, 1))
        record = BuildRecord("id", "\nDockerfile\n", "", 0, 13, "done", "", "", (), stages, steps)
        assert [step.name for step in critical_path(record)] == path


def test_builds_are_listed_shown_and_compared(built: Project) -> None:
    built.write("a.txt", "other")
    built.built()
    listed = [json.loads(line) for line in built.command("builds", "ls", "--json").out.splitlines()]
    assert [one["hits"] for one in listed] == [2, 0]
    assert "a.txt changed" in built.command("builds", "show", "last").out
    assert "CACHED" in built.command("builds", "ls").out
    pairs = json.loads(built.command("builds", "compare", "--json").out)
    changes = {one["step"].partition("] ")[2]: one["change"] for one in pairs}
    assert changes["COPY a.txt /a"] == "changed" and changes["RUN true"] == "same"
    assert listed[1]["id"] in built.command("builds", "compare", "last~1", "last").out


def test_a_build_that_is_not_there_is_named(project: Project) -> None:
    assert "no build records" in project.command("builds", "show").error
    project.built(text="FROM scratch\nWORKDIR /a\n")
    assert "no build" in project.command("builds", "show", "zzz").error
    assert "no build last~7" in project.command("builds", "show", "last~7").error


def test_a_record_can_be_forgotten(built: Project) -> None:
    assert built.command("builds", "rm", "last").code == 0
    assert not records(built)


def test_the_summary_is_appended_as_markdown(built: Project) -> None:
    file = built.root / "summary.md"
    file.write_text("before\n")
    built.write("a.txt", "x|y")
    built.built("--summary", str(file))
    text = file.read_text()
    assert text.startswith("before\n### ✅ minibuild")
    assert "5 steps, 2 cached (40 %)" in text and "a.txt changed" in text
    assert "| `[stage-2 2/4] COPY a.txt /a` | **run** |" in text


def test_a_failed_build_is_summed_up_too(built: Project) -> None:
    file = built.root / "summary.md"
    assert built.build("--summary", str(file), text="FROM busybox\nRUN false\n").code == 1
    assert "❌" in file.read_text()


def test_explain_shows_what_changed_and_the_default_does_not(built: Project) -> None:
    built.write("a.txt", "b")
    assert "M a.txt" not in built.built().err
    built.write("a.txt", "c")
    assert "M a.txt  sha256:" in built.built("--explain").err
    assert "M a.txt  sha256:" in built.command("cache", "why", "a.txt").out


def test_images_are_compared_by_layers_files_and_configuration(built: Project) -> None:
    built.write("a.txt", "longer")
    built.built("-t", "two", text=TEXT + "ENV X=1\nRUN rm /sh2\n")
    done = json.loads(built.command("diff", "one", "two", "--json").out)
    files = {file["path"]: file for file in done["files"]}
    assert files["a"]["change"] == "changed" and files["a"]["bytes"] == 5
    assert files["sh2"]["change"] == "removed"
    assert {"field": "env X", "before": None, "after": "1"} in done["config"]
    assert "rm /sh2" in built.command("diff", "one", "two").out


def test_images_are_named_by_the_builds_that_made_them(built: Project) -> None:
    built.write("a.txt", "b")
    built.built("-t", "two")
    by_build = built.command("diff", "last~1", "last", "--json")
    assert by_build.out == built.command("diff", "one", "two", "--json").out
    built.write("a.txt", "c")
    built.built("-t", "two")
    lost = built.command("diff", "last~1", "last")
    assert lost.code == 2 and "has no name here" in lost.error


def test_files_of_one_size_are_compared_by_content(built: Project) -> None:
    built.write("a.txt", "b")
    built.built("-t", "two")
    done = json.loads(built.command("diff", "one", "two", "--json").out)
    assert [(file["path"], file["details"]) for file in done["files"]] == [("a", ["content"])]


def test_equal_images_do_not_differ(built: Project) -> None:
    built.command("tag", "one", "two")
    done = json.loads(built.command("diff", "one", "two", "--json").out)
    assert not done["layers"] and not done["files"] and not done["config"]


def test_old_records_go_when_there_are_many(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        for number in range(12):
            journal = Journal(store)
            journal.begin("place", "Dockerfile", [StageRow("a", "scratch", ("RUN x",))])
            journal.add(StepRow("a", 0, "RUN x", "RUN x", f"{number}", False, 0.0, 1.0, 0.0, 10, "d"))
            journal.finish("done")
        forget_oldest(store, 5)
        assert len(Builds(store).all()) == 5


def test_instructions_are_matched_by_likeness_and_order() -> None:
    old = ["RUN a", "COPY x /x", "RUN make all", "RUN end"]
    assert aligned(old, old) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert aligned(old, ["RUN a", "RUN new", "COPY x /x", "RUN make all -j2", "RUN end"]) == {
        0: 0,
        2: 1,
        3: 2,
        4: 3,
    }
    assert aligned(old, ["RUN a", "RUN make all", "RUN end"]) == {0: 0, 1: 2, 2: 3}
    assert aligned(["COPY x /x"], ["RUN x"]) == {}


def test_builds_and_collections_at_once_fail_nobody(project: Project) -> None:
    """A small form of what was run by hand with sixteen builders."""
    errors: list[str] = []

    def builder(number: int) -> None:
        folder = project.root / f"context{number}"
        folder.mkdir()
        for turn in range(4):
            (folder / "a.txt").write_text(str((number + turn) % 3))
            (folder / "Dockerfile").write_text(
                "FROM busybox\nCOPY a.txt /a\nRUN cat /a > /b\nRUN test -s /b\n"
            )
            done = project.process("build", *project.base(), "-t", f"image{number}", str(folder))
            if done.code or "damaged" in done.err:
                errors.append(done.err)

    def collector() -> None:
        for options in (["gc"], ["prune", "--all"], ["gc", "--keep-storage", "1MB"], ["prune"]) * 2:
            done = project.process("cache", *options)
            if done.code:
                errors.append(done.err)

    threads = [threading.Thread(target=builder, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=collector))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert project.command("cache", "verify").code == 0
