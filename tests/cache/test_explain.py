"""Every miss names what caused it."""

from __future__ import annotations

import shutil

from minibuild_store.store import Store

from minibuild.cache.builds import BuildRecord, Builds
from minibuild.cache.journal import StepRow
from tests.cache.edits import DOCKERFILE, EDITS, FILES, Edit
from tests.feature.project import Project


def last(project: Project) -> BuildRecord:
    with Store.open(project.store) as store:
        return Builds(store).all()[0]


def step(record: BuildRecord, words: str) -> StepRow:
    found = [row for row in record.steps if words in row.name]
    assert len(found) == 1, f"{words}: {[row.name for row in record.steps]}"
    return found[0]


def reset(project: Project) -> None:
    shutil.rmtree(project.context)
    project.context.mkdir()
    for path, content in FILES.items():
        project.write(path, content)
    project.write("Dockerfile", DOCKERFILE)


def wrong(edit: Edit, record: BuildRecord) -> list[str]:
    """What the record says otherwise than `edit` expects."""
    found = []
    for words, (kind, reason) in edit.causes.items():
        row = step(record, words)
        if row.cause is None:
            found.append(f"{edit.name}: {row.name} was a hit")
        elif row.cause.kind != kind or reason not in row.cause.reason:
            found.append(
                f"{edit.name}: {row.name}: {row.cause.kind}, {row.cause.reason!r}; want {kind}, {reason!r}"
            )
    found += [f"{edit.name}: {words} missed" for words in edit.hits if not step(record, words).hit]
    if not edit.causes:
        found += [f"{edit.name}: {row.name}: {row.cause}" for row in record.steps if not row.hit]
    return found


def test_more_than_forty_edits_give_as_many_right_answers(project: Project) -> None:
    more = ("--build-context", f"debian=oci-layout://{project.bases}:layered")
    assert len({edit.name for edit in EDITS}) == len(EDITS) >= 60
    found = []
    for edit in EDITS:
        reset(project)
        edit.first(project)
        project.built(*more, *edit.both)
        edit.make(project)
        project.built(*more, *edit.given(project))
        found += wrong(edit, last(project))
    assert not found, "\n".join(found)


TARGETS = "FROM busybox AS one\nCOPY a /\nFROM busybox AS two\nCOPY b /\nFROM one\nRUN true\n"


def test_a_target_that_was_never_built_is_compared_with_another(project: Project) -> None:
    project.write("a", "a")
    project.write("b", "b")
    project.built(text=TARGETS)
    project.write("a", "other")
    assert "not cached: a changed" in project.built("--target", "one", text=TARGETS).step("COPY a")
    assert "not cached: never built here" in project.built("--target", "two", text=TARGETS).step("COPY b")
