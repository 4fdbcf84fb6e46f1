"""Whole builds with a store of their own, as in the feature tests."""

from __future__ import annotations

import pytest
from minibuild_store.store import Store

from minibuild.cache.builds import BuildRecord, Builds
from tests.feature.conftest import bases, project, sandbox_works
from tests.feature.project import Project

__all__ = ["bases", "project", "sandbox_works"]

TEXT = """
FROM busybox AS slow
RUN sleep 0.3; echo '<script>alert("x & y")</script>'
FROM slow AS side
RUN true
FROM busybox
COPY a.txt /a
COPY --from=slow /bin/sh /sh
COPY --from=side /bin/sh /sh2
"""


@pytest.fixture
def built(project: Project) -> Project:
    """Three builds: from nothing, one with a file changed, and one that fails."""
    project.write("a.txt", "a")
    project.built("-t", "one", text=TEXT)
    project.write("a.txt", "other")
    project.built("-t", "one")
    assert project.build(text=TEXT + "RUN echo no & false\n").code == 1
    project.dockerfile(TEXT)
    return project


def records(project: Project) -> list[BuildRecord]:
    """Newest first."""
    with Store.open(project.store) as store:
        return Builds(store).all()
