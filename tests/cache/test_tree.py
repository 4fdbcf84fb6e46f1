"""``cache tree``, ``--min-free`` and ``--cache-ttl``."""

from __future__ import annotations

import os

import pytest

from tests.feature.project import Project

TEXT = """
FROM busybox AS one
RUN echo 1 > /1
FROM one AS two
RUN echo 2 > /2
FROM one
COPY --from=two /2 /2
RUN echo 3 > /3
"""


def test_stages_stand_below_what_they_are_built_on(project: Project) -> None:
    project.built(text=TEXT)
    lines = project.command("cache", "tree").out.splitlines()
    assert lines[0] == str(project.context / "Dockerfile")
    assert lines[1].startswith("└─ one  (image busybox@sha256:")
    assert lines[2].startswith("   ├─ RUN echo 1 > /1  ")
    assert lines[3] == "   ├─ two  (stage one)" and lines[4].startswith("   │  └─ RUN echo 2 > /2  ")
    assert lines[5].endswith("(stage one)") and lines[7].startswith("      └─ RUN echo 3 > /3  ")
    project.command("cache", "prune", "--all")
    assert project.command("cache", "tree", "context").out.count("evicted") == 4
    assert "no build of 'nothing'" in project.command("cache", "tree", "nothing").error


def test_room_is_made_until_enough_is_free(project: Project) -> None:
    project.built(text=TEXT)
    for command in ("gc", "prune"):
        assert "RUN" not in project.command("cache", command, "--min-free", "1").out
    disk = os.statvfs(project.store)
    more = disk.f_bavail * disk.f_frsize + (1 << 40)
    done = project.command("cache", "gc", "--min-free", str(more), "--dry-run")
    assert "RUN echo 3" in done.out and project.built().summary == (4, 4)
    assert project.command("cache", "gc", "--min-free", "much").code == 2


@pytest.mark.parametrize("ttl, hits", [("1w", 4), ("0s", 0)])
def test_results_older_than_asked_for_are_made_again(project: Project, ttl: str, hits: int) -> None:
    project.built(text=TEXT)
    done = project.built("--cache-ttl", ttl)
    assert done.summary == (4, hits)
    assert ("its result is older than its ttl" in done.err) == (not hits)
