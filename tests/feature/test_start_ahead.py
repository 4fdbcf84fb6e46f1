"""The sandbox is started before the first RUN asks for it where a RUN is bound to ask."""

from __future__ import annotations

import pytest
from minibuild_store.store import Store

from minibuild.cache.journal import Journal
from minibuild.engine import session
from minibuild.engine.sandboxes import Sandboxes
from tests.feature.project import Project

TEXT = "FROM busybox\nRUN echo 1 > /1\n"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Sandboxes]:
    """The sessions that have started ahead."""
    found: list[Sandboxes] = []
    start = Sandboxes.start_ahead

    def noted(sandboxes: Sandboxes) -> None:
        found.append(sandboxes)
        start(sandboxes)

    monkeypatch.setattr(Sandboxes, "start_ahead", noted)
    return found


def test_nothing_was_ever_built(project: Project, starts: list[Sandboxes]) -> None:
    project.built(text=TEXT)
    assert len(starts) == 1
    project.built()
    assert len(starts) == 1


def test_nothing_is_to_be_found(project: Project, starts: list[Sandboxes]) -> None:
    project.built(text=TEXT)
    project.built("--no-cache")
    assert len(starts) == 2


def test_not_where_nothing_is_run(project: Project, starts: list[Sandboxes]) -> None:
    project.write("a", "a")
    project.built(text="FROM busybox\nCOPY a /a\n")
    assert starts == []


def test_not_where_a_shared_cache_may_have_it(project: Project, starts: list[Sandboxes]) -> None:
    project.built("--cache-from", f"type=local,src={project.root / 'cache'}", text=TEXT)
    assert starts == []


def test_what_cannot_be_started_is_told_to_who_wants_it(project: Project, starts: list[Sandboxes]) -> None:
    done = project.build("--isolation=none", text=f"{TEXT}FROM scratch\nCOPY --from=0 /1 /\n")
    assert len(starts) == 1 and done.code != 0
    assert done.err.count("RUN needs isolation") == 2  # the step says so, and the end
    assert "Dockerfile:2" in done.error


def test_a_stage_that_is_not_needed_may_run_where_nothing_can(
    project: Project, starts: list[Sandboxes]
) -> None:
    done = project.built("--isolation=none", text=f"{TEXT}FROM busybox\nENV a=b\n")
    assert len(starts) == 1 and "isolation" not in done.err


def test_the_sandbox_is_let_go_after_the_last_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[list[str]] = []
    journals: list[Journal] = []
    rest = Sandboxes.rest

    def journal(store: Store) -> Journal:
        journals.append(Journal(store))
        return journals[0]

    def noted(sandboxes: Sandboxes) -> None:
        done.append([row.instruction for row in journals[0].steps])
        rest(sandboxes)

    monkeypatch.setattr(session, "Journal", journal)
    monkeypatch.setattr(Sandboxes, "rest", noted)
    project.built(text=f"{TEXT}RUN echo 2 > /2\nFROM busybox\nCOPY --from=0 /2 /\n")
    assert [text.split()[0] for text in done[0]] == ["RUN", "RUN"]
    assert len(done[1]) == 3


def test_what_is_found_while_a_stage_waits_is_told_once_at_the_end(project: Project) -> None:
    text = (
        "FROM busybox AS part\nENV A=$UNDEF\nRUN sleep 0.5; echo > /f\nFROM busybox\nCOPY --from=part /f /\n"
    )
    done = project.built(text=text)
    assert done.err.count("UndefinedVar") == 1
    assert done.err.index("UndefinedVar") > done.err.index("COPY --from=part")
