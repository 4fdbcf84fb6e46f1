"""``--dry-run``: what a build would do, without doing it."""

from __future__ import annotations

import json
import re

from tests.feature.project import Done, Project

TEXT = """
FROM busybox AS made
WORKDIR /w
COPY a.txt .
RUN cat a.txt > b.txt
FROM busybox
COPY c.txt /
COPY --from=made /w/b.txt /b
COPY --link c.txt /d
RUN --mount=type=bind,target=/ctx cp /ctx/c.txt /e
"""


def prepared(project: Project) -> None:
    project.write("a.txt", "a")
    project.write("c.txt", "c")
    project.dockerfile(TEXT)


def states(done: Done) -> dict[str, str]:
    """What is said of each step, by the words of its instruction."""
    assert done.code == 0, done.err
    rows = re.findall(r"^  (\w+) +(\S+) +\[.*?\] (.*)$", done.out, re.M)
    return {re.sub(r"  \(.*\)$", "", words): state for state, _, words in rows}


def reason(done: Done, words: str) -> str:
    match = re.search(re.escape(words) + r".*  \((.*)\)$", done.out, re.M)
    assert match is not None, done.out
    return match[1]


def test_before_the_first_build_only_what_needs_no_other_result_has_a_key(project: Project) -> None:
    prepared(project)
    done = project.build("--dry-run")
    assert states(done) == {
        "WORKDIR /w": "execute",
        "COPY a.txt .": "unknown",
        "RUN cat a.txt > b.txt": "unknown",
        "COPY c.txt /": "execute",
        "COPY --from=made /w/b.txt /b": "unknown",
        "COPY --link c.txt /d": "execute",
        "RUN --mount=type=bind,target=/ctx cp /ctx/c.txt /e": "unknown",
    }
    assert reason(done, "COPY a.txt .") == "a step before it comes first"
    assert reason(done, "COPY --from=made") == "stage made comes first"
    assert "7 steps: 0 cached, 3 to execute, 4 unknown" in done.out


def test_nothing_is_executed(project: Project) -> None:
    prepared(project)
    project.build("--dry-run")
    assert project.built().summary == (7, 0)


def test_after_a_build_all_is_cached(project: Project) -> None:
    prepared(project)
    project.built()
    done = project.build("--dry-run")
    assert set(states(done).values()) == {"cached"}
    assert done.out.endswith("7 steps: 7 cached, 0 to execute\n")


def test_a_changed_file_is_named(project: Project) -> None:
    prepared(project)
    project.built()
    project.write("a.txt", "other")
    done = project.build("--dry-run")
    found = states(done)
    assert reason(done, "COPY a.txt .") == "a.txt changed"
    assert (found["WORKDIR /w"], found["COPY a.txt ."]) == ("cached", "execute")
    assert (found["COPY c.txt /"], found["COPY --link c.txt /d"]) == ("cached", "cached")
    assert found["COPY --from=made /w/b.txt /b"] == "unknown"


def test_the_keys_shown_are_those_of_the_build(project: Project) -> None:
    prepared(project)
    before = re.search(r"execute +(\w+) +\[made 2/4\] WORKDIR", project.build("--dry-run").out)
    project.built()
    after = re.search(r"cached +(\w+) +\[made 2/4\] WORKDIR", project.build("--dry-run").out)
    assert before is not None and after is not None and before[1] == after[1]


def test_what_is_fetched_is_not_fetched(project: Project) -> None:
    done = project.build("--dry-run", text="FROM busybox\nADD http://127.0.0.1:9/x /x\n")
    assert reason(done, "ADD") == "http://127.0.0.1:9/x has to be asked first"


def test_a_missing_file_is_an_error_as_in_the_build(project: Project) -> None:
    project.write("file.txt")
    done = project.build("--dry-run", text="FROM busybox\nCOPY fiel.txt /\n")
    assert done.code == 1
    assert ">>> COPY fiel.txt /" in done.error
    assert "did you mean file.txt?" in done.error


def test_no_cache_shows_in_the_plan(project: Project) -> None:
    prepared(project)
    project.built()
    assert reason(project.build("--dry-run", "--no-cache"), "WORKDIR /w") == "not to be cached"


def test_programs_get_the_plan_as_json(project: Project) -> None:
    prepared(project)
    project.built()
    project.write("c.txt", "changed")
    done = project.build("--dry-run", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert (plan["cached"], plan["execute"], plan["unknown"]) == (3, 2, 2)
    steps = {step["instruction"]: step for stage in plan["stages"] for step in stage["steps"]}
    hit, miss, unknown = (steps[words] for words in ("WORKDIR /w", "COPY c.txt /", TEXT.splitlines()[-1]))
    assert (hit["state"], len(hit["key"]), hit["cause"]) == ("cached", 64, None)
    assert (miss["state"], len(miss["key"]), miss["cause"]["kind"]) == ("execute", 64, "files")
    assert (unknown["state"], unknown["key"], unknown["cause"]["kind"]) == ("unknown", None, "waits")


def test_json_without_a_dry_run_is_refused(project: Project) -> None:
    done = project.build("--json", text="FROM scratch\n")
    assert done.code == 2
    assert "--dry-run" in done.error
