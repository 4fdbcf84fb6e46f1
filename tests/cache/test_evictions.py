"""A result that was taken away is the cause of a miss, whatever else has changed since the last build."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from minibuild_store.gc import GcReport, Roots
from minibuild_store.records import record_path
from minibuild_store.store import Store

from minibuild.cache import kept
from minibuild.cache.builds import Builds
from minibuild.cache.collect import collect
from minibuild.cache.eviction import Policy
from minibuild.cache.inventory import Inventory
from minibuild.cache.journal import Cause
from minibuild.cache.steps import Eviction, StepCache
from minibuild.engine.upkeep import remover
from tests.cache.test_room import blob_of, damage
from tests.feature.project import Project

TEXT = """
FROM busybox
COPY a.txt /a
RUN head -c 1000 /dev/urandom > /noise
"""


def build(project: Project, content: str, *, cap: str = "") -> None:
    project.write("a.txt", content)
    project.built(text=TEXT, environment={"MINIBUILD_KEEP_STORAGE": cap} if cap else None)


def cause(project: Project, words: str) -> Cause | None:
    """Why the step with `words` in its name missed in the last build; None: it hit."""
    with Store.open(project.store) as store:
        found = [row for row in Builds(store).all()[0].steps if words in row.name]
    assert len(found) == 1
    assert found[0].hit == (found[0].cause is None)
    return found[0].cause


def first_copy(project: Project) -> Path:
    """The blob of the COPY of the first build."""
    with Store.open(project.store) as store:
        copies = [record for record, _ in Inventory(store).steps.values() if "COPY" in record.name]
        return store.blobs.path(min(copies, key=lambda record: record.created).layer.descriptor.digest)


@pytest.fixture
def one_then_two(project: Project) -> Project:
    build(project, "one")
    build(project, "two")
    return project


def test_what_prune_took_is_said_to_be_evicted_though_the_last_build_was_of_other_files(
    one_then_two: Project,
) -> None:
    one_then_two.command("cache", "prune")
    build(one_then_two, "one")
    found = cause(one_then_two, "COPY a.txt")
    assert found is not None and found.kind == "evicted"
    assert "no longer in the cache: removed by cache prune, 20" in found.reason
    assert found.details[0] == "other than in the last build: a.txt changed"


def test_what_never_was_built_is_not_evicted(one_then_two: Project) -> None:
    one_then_two.command("cache", "prune")
    build(one_then_two, "three")
    found = cause(one_then_two, "COPY a.txt")
    assert found is not None and found.kind == "files"


def test_a_damaged_blob_that_verify_removed_is_named_as_such_before_any_difference(
    one_then_two: Project,
) -> None:
    damage(first_copy(one_then_two))
    assert one_then_two.command("cache", "verify").code == 1
    one_then_two.command("cache", "gc")  # which forgets the step without a blob, but not why
    build(one_then_two, "two")
    build(one_then_two, "one")
    found = cause(one_then_two, "COPY a.txt")
    assert (
        found is not None
        and found.kind == "evicted"
        and "damaged, and removed by cache verify" in found.reason
    )


def test_damage_that_the_build_itself_finds_is_told_as_damage(one_then_two: Project) -> None:
    damage(first_copy(one_then_two))
    build(one_then_two, "one")
    found = cause(one_then_two, "COPY a.txt")
    assert found is not None and found.kind == "evicted" and "damaged or deleted" in found.reason


def test_a_blob_deleted_by_hand_and_forgotten_by_gc_is_told_as_damage(project: Project) -> None:
    build(project, "one")
    blob_of(project, "COPY a.txt").unlink()
    project.command("cache", "gc")
    build(project, "one")
    found = cause(project, "COPY a.txt")
    assert found is not None and "found damaged or deleted, 20" in found.reason


def test_what_the_cap_took_after_a_build_is_said_to_be_evicted_by_the_cap(project: Project) -> None:
    build(project, "one")
    build(project, "two", cap="1")
    build(project, "one")
    found = cause(project, "COPY a.txt")
    assert found is not None and found.kind == "evicted" and "evicted to keep the cap, 20" in found.reason


def test_what_was_too_old_is_said_to_be_so(one_then_two: Project) -> None:
    one_then_two.command("cache", "gc", "--max-age", "0s")
    build(one_then_two, "one")
    found = cause(one_then_two, "COPY a.txt")
    assert found is not None and "not used for longer than --max-age, 20" in found.reason


def test_the_same_cause_is_in_progress_why_show_and_the_plan(one_then_two: Project) -> None:
    one_then_two.command("cache", "prune")
    one_then_two.write("a.txt", "one")
    planned = one_then_two.build("--dry-run")
    assert "removed by cache prune" in planned.out
    done = one_then_two.built("--explain")
    assert done.err.count("#2 not cached: its result is no longer in the cache: removed by cache prune") == 1
    assert "#2   other than in the last build: a.txt changed" in done.err
    for shown in (("cache", "why", "COPY"), ("builds", "show", "last")):
        assert "removed by cache prune" in one_then_two.command(*shown).out


def test_a_step_built_again_is_evicted_no_more(one_then_two: Project) -> None:
    one_then_two.command("cache", "prune")
    with Store.open(one_then_two.store) as store:
        gone = set(store.records("evictions").names())
        assert gone
    build(one_then_two, "one")
    with Store.open(one_then_two.store) as store:
        assert set(store.records("evictions").names()) < gone
        assert not set(store.records("evictions").names()) & set(store.records("steps").names())


def test_a_dry_run_notes_nothing(one_then_two: Project) -> None:
    one_then_two.command("cache", "prune", "--all", "--dry-run")
    with Store.open(one_then_two.store) as store:
        assert not list(store.records("evictions").names())


def test_what_is_remembered_is_bounded_in_number_and_in_age(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_EVICTIONS", 5)
    with Store.open(project.store) as store:
        cache = StepCache(store)
        for number in range(12):
            cache.evict(f"key{number}", Eviction("cap", float(number)))
            aged(store, f"key{number}", 100 - number)
        aged(store, "key11", 91 * 86_400)
        with remover() as remove:
            collect(store, Policy(), remove=remove)
        assert set(store.records("evictions").names()) == {f"key{number}" for number in range(6, 11)}


def aged(store: Store, key: str, seconds: float) -> None:
    """Make the note on `key` look `seconds` old."""
    file = record_path(str(store.root / "records-v2" / "evictions"), key)
    os.utime(file, (time.time() - seconds,) * 2)


def test_a_step_used_while_gc_runs_is_not_said_to_be_evicted(one_then_two: Project) -> None:
    with Store.open(one_then_two.store) as store:
        cache = StepCache(store)
        sweep = store.gc

        def slow(roots: object, **options: object) -> GcReport:
            def late() -> Roots:
                kept: Roots = roots()  # type: ignore[operator]
                for key in Inventory(store).steps:
                    cache.touch(key)  # a build that hits them all, after gc made up its mind
                return kept

            return sweep(late, **options)  # type: ignore[arg-type]

        store.gc = slow  # type: ignore[method-assign, assignment]
        collect(store, Policy(everything=True))
        assert list(store.records("steps").names())
        assert not list(store.records("evictions").names())
