"""What keys alone say is what builds do, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from minibuild.lab.shelf import Room
from tests.lab.histories import Both, hits

STAGES = """\
FROM busybox AS files
WORKDIR /f
COPY conf/ conf/
FROM busybox AS made
WORKDIR /w
COPY requirements.txt .
RUN cat requirements.txt > installed
COPY src/ src/
RUN cat src/* > out
FROM busybox
COPY docs/ /docs/
COPY --from=files /f/conf/main.conf /etc/
COPY --from=made /w/out /
RUN --mount=type=bind,source=src,target=/src ls /src > /list
"""

COMMITS = [
    {
        "Dockerfile": STAGES,
        "requirements.txt": "a",
        "src/a.py": "1",
        "docs/x.md": "x",
        "conf/main.conf": "m",
        "conf/other.conf": "o",
    },
    {"src/a.py": "2"},
    {"README": "r"},
    {"requirements.txt": "b", "src/a.py": "3"},
    {"docs/x.md": "y"},
    {"src/a.py": "1", "requirements.txt": "a", "docs/x.md": "x"},
    {"conf/other.conf": "p"},
    {"conf/main.conf": "n"},
    {"Dockerfile": STAGES.replace("WORKDIR /w\nCOPY req", "WORKDIR /w/\nCOPY req"), "src/a.py": "4"},
    {"Dockerfile": STAGES.replace("WORKDIR /w\nCOPY req", "WORKDIR /w/\nCOPY req") + "RUN true\n"},
]

# files: WORKDIR, COPY; made: WORKDIR, COPY, RUN, COPY, RUN; last: COPY, COPY, COPY, RUN
REASONED = [
    "mm mmmmm mmmm",
    "HH HHHmm HHmm",  # the file reaches COPY src, what follows it, the copy of the result, and the mount
    "HH HHHHH HHHH",  # nothing takes README
    "HH Hmmmm HHmm",
    "HH HHHHH mmmm",  # the first of the last stage: all of that stage
    "HH HHHHH HHHH",  # everything as at first
    "Hm HHHHH HHHH",  # copied into a stage, but not on from there
    "Hm HHHHH Hmmm",
    "HH mHmmm HHmm",  # WORKDIR gives the same layer again, so COPY hits; RUN has another working directory
    "HH HHHHH HHHHm",
]


def test_a_history_of_stages_and_mounts(tmp_path: Path, bases: Path, sandbox_works: None) -> None:
    both = Both(tmp_path, COMMITS, bases=bases)
    assert hits(both.real) == hits(both.thought) == [words.replace(" ", "") for words in REASONED]


def test_what_a_run_writes_again_is_between_the_bounds(
    tmp_path: Path, bases: Path, sandbox_works: None
) -> None:
    text = """\
FROM busybox AS made
COPY src /src
RUN wc -l /src/* | tail -n 1 | cut -c 1 > /lines
FROM busybox
COPY --from=made /lines /
RUN cat /lines > /shown
"""
    commits = [
        {"Dockerfile": text, "src/a": "1\n"},
        {"src/a": "2\n"},  # the count stays: keys alone cannot know
        {"src/a": "2\n2\n"},
    ]
    both = Both(tmp_path, commits, bases=bases)
    assert hits(both.thought) == ["mmmm", "mmmm", "mmmm"]
    assert hits(both.real) == ["mmmm", "mmHH", "mmmm"]
    assert [built.most_hits for built in both.thought.builds] == [0, 2, 2]
    assert [step.assumed for step in both.thought.builds[1].steps] == [False, False, True, False]


@pytest.mark.parametrize("shared", [False, True])
def test_a_clone_has_a_git_folder_that_every_commit_changes(
    tmp_path: Path, bases: Path, sandbox_works: None, shared: bool
) -> None:
    text = "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN ls > /list\n"
    both = Both(tmp_path, [{"Dockerfile": text}, {"a": "1"}, {"a": "2"}], bases=bases, shared=shared)
    assert hits(both.thought) == hits(both.real) == ["mmm", "Hmm", "Hmm"]
    both = Both(
        tmp_path / "ignored",
        [{"Dockerfile": text, ".dockerignore": ".git\na\n"}, {"a": "1"}, {"a": "2", "b": "1"}],
        bases=bases,
        shared=shared,
    )
    assert hits(both.thought) == hits(both.real) == ["mmm", "HHH", "Hmm"]


def test_what_a_shared_cache_has_is_the_last_build(tmp_path: Path, bases: Path, sandbox_works: None) -> None:
    text = "FROM busybox\nWORKDIR /w\nCOPY a b ./\nRUN cat a > c\n"
    commits = [{"Dockerfile": text, "a": "1", "b": "1"}, {"a": "2"}, {"a": "1"}, {"other": "1"}]
    local = Both(tmp_path / "local", commits, bases=bases)
    assert hits(local.thought) == hits(local.real) == ["mmm", "Hmm", "HHH", "HHH"]
    shared = Both(tmp_path / "shared", commits, bases=bases, shared=True)
    assert hits(shared.thought) == hits(shared.real) == ["mmm", "Hmm", "Hmm", "HHH"]


def test_mounted_files_count_by_content_on_a_fresh_machine(
    tmp_path: Path, bases: Path, sandbox_works: None
) -> None:
    text = "FROM busybox\nRUN --mount=type=bind,source=a,target=/a cat /a > /b\nRUN cat b > c\n"
    commits = [{"Dockerfile": text, "a": "1"}, {"other": "1"}, {"a": "2"}]
    shared = Both(tmp_path, commits, bases=bases, shared=True)
    assert hits(shared.thought) == hits(shared.real) == ["mm", "HH", "mm"]


def test_what_is_evicted_runs_again_and_so_does_what_follows(
    tmp_path: Path, bases: Path, sandbox_works: None
) -> None:
    text = "FROM busybox\nCOPY a /\nRUN cat a > b\nRUN cat b > c\n"
    commits = [{"Dockerfile": text, "a": "1"}, {"a": "2"}, {"a": "1"}]
    both = Both(tmp_path, commits, bases=bases, room=Room("value", 1))
    assert hits(both.thought) == hits(both.real) == ["mmm", "mmm", "mmm"]


def test_a_build_that_fails_keeps_what_it_finished(tmp_path: Path, bases: Path, sandbox_works: None) -> None:
    text = "FROM busybox\nCOPY a /\nRUN cat a > b\nCOPY missing /\n"
    commits = [{"Dockerfile": text, "a": "1"}, {"missing": "m"}, {"Dockerfile": "FROM"}]
    both = Both(tmp_path, commits, bases=bases)
    assert hits(both.thought) == hits(both.real) == ["mm!", "HHm", "!"]
