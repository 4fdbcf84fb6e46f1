"""Made-up histories: reproducible, and of the shape that the model says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from minibuild.errors import UsageError
from minibuild.lab.history import History
from minibuild.lab.synth import MANIFEST, Model, synthesise
from minibuild.lab.trace import Edit, dump_trace, read_trace, write_repository


def test_a_seed_gives_the_same_history_and_another_another() -> None:
    model = Model(files=40, commits=30, seed=7)
    assert synthesise(model) == synthesise(model)
    assert synthesise(model) != synthesise(Model(files=40, commits=30, seed=8))


def test_few_files_take_most_edits_and_manifests_change_rarely() -> None:
    edits = synthesise(Model(files=300, commits=1500, alpha=1.2, manifests=0.02))[1:]
    counts = Counter(path for edit in edits for path in edit.files if path != MANIFEST)
    top = sum(count for _, count in counts.most_common(len(counts) // 10))
    assert top > 0.4 * counts.total()
    manifests = sum(MANIFEST in edit.files for edit in edits)
    assert 10 <= manifests <= 60


def test_commits_come_in_bursts() -> None:
    edits = synthesise(Model(files=50, commits=500, burst=0.8))
    gaps = [after.time - before.time for before, after in pairwise(edits)]
    assert 0.7 < sum(gap < 3600 for gap in gaps) / len(gaps) < 0.95


def test_a_trace_and_a_repository_of_it_hold_the_same(tmp_path: Path) -> None:
    edits = synthesise(Model(files=20, commits=25))
    (tmp_path / "trace.json").write_text(dump_trace(edits))
    assert read_trace(tmp_path / "trace.json") == edits
    write_repository(tmp_path / "git", edits)
    with History(tmp_path / "git") as history:
        commits = history.commits()
        assert [commit.time for commit in commits] == [edit.time for edit in edits]
        last = {path: content for edit in edits for path, content in edit.files.items()}
        for path, content in last.items():
            assert (history.find(commits[-1].tree, path.encode()) is None) == (content is None)


def test_a_model_out_of_bounds_is_refused() -> None:
    with pytest.raises(UsageError, match="--burst"):
        synthesise(Model(burst=1.5))


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a//b", ".git/hooks/x", ""])
def test_a_trace_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    (tmp_path / "trace.json").write_text(dump_trace([Edit(1, {path: "x"})]))
    with pytest.raises(UsageError, match="not a path"):
        write_repository(tmp_path / "git", read_trace(tmp_path / "trace.json"))
