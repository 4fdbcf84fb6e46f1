"""A few seconds of what `tests.cache.stress` does for minutes."""

from __future__ import annotations

from tests.cache.stress import Stress
from tests.feature.project import Project


def test_builds_and_collections_at_once_fail_at_nothing_and_leave_nothing(project: Project) -> None:
    folder = project.root / "stress"
    folder.mkdir()
    stress = Stress(folder, project.bases, builders=6, seconds=6, seed=7)
    stress.run()
    assert not stress.failures, "\n".join(stress.failures)
    assert stress.builds >= 6 and stress.collections
