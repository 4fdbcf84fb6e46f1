"""The same commits built for real, on a store of their own: what keys alone say can be held against it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from minibuild_store.store import Store

from minibuild.cache.builds import Builds
from minibuild.cache.journal import StepRow as JournalRow
from minibuild.cache.spec import CacheSpec
from minibuild.context.folder import FolderView
from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest
from minibuild.engine.upkeep import keep_cap, remover
from minibuild.errors import Cancelled, MinibuildError, UsageError
from minibuild.lab.history import Commit, History
from minibuild.lab.memory import StepRow
from minibuild.lab.replay import Built, Outcome, Replay, ReplaySpec, by_step, one_line
from minibuild.lab.variants import Variant
from minibuild.lab.view import GitFiles, GitView, Snapshot
from minibuild.layers.entry import Kind
from minibuild.values import replace


def execute(
    history: History,
    spec: ReplaySpec,
    variant: Variant,
    *,
    tick: Callable[[], None] = lambda: None,
    temporary: Path | None = None,
) -> Outcome:
    """Build every commit as `variant` says, each RUN included; raises `UsageError`.

    The stores and contexts are in a folder below `temporary` that goes away afterwards.
    """
    if variant.room.policy == "lru":
        raise UsageError(
            "--execute cannot evict by lru: the store keeps its cap by value",
            cure="Compare lru without --execute, or take --policy value.",
        )
    builds: list[Built] = []
    most = 0
    with ExitStack() as stack:
        work = stack.enter_context(_folder(temporary))
        with Store.open(work / "store") as lasting:
            for number, commit in enumerate(spec.commits):
                snapshot = Snapshot(history, commit, spec.folder, git_folder=spec.git_folder)
                if not variant.shared:
                    builds.append(_built(snapshot, commit, spec.request, variant, lasting, work))
                    if variant.room.size is not None and variant.room.policy == "value":
                        keep_cap(lasting, variant.room.size, spec.request.isolation)
                else:
                    cache = {"dest": str(work / "cache"), "src": str(work / "cache")}
                    there = CacheSpec("local", cache, mode="max")
                    request = replace(spec.request, cache_from=(there,) if number else (), cache_to=(there,))
                    with Store.open(work / f"store{number}") as fresh:
                        builds.append(_built(snapshot, commit, request, variant, fresh, work))
                held = sum(lasting.blobs.size(digest) or 0 for digest in lasting.blobs)
                most = max(most, sum(step.bytes for step in builds[-1].steps) if variant.shared else held)
                tick()
    return Outcome(variant, tuple(builds), most)


@contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    """A temporary folder, removed also where its files belong to subordinate users."""
    folder = Path(tempfile.mkdtemp(prefix="minibuild-lab-", dir=parent))
    try:
        yield folder
    finally:
        with remover() as remove:
            remove(folder)


def _built(
    snapshot: Snapshot,
    commit: Commit,
    request: BuildRequest,
    variant: Variant,
    store: Store,
    work: Path,
) -> Built:
    text = variant.dockerfile.at(snapshot)
    if text is None:
        return Built((), f"there is no {variant.dockerfile.path}")
    before = set(store.records("builds").names())
    try:
        ignore = variant.ignore_file(snapshot)
        rules = work / "ignore"
        rules.write_text("\n".join(line.text for line in ignore.patterns) if ignore is not None else "")
        context = work / "context"
        write_context(snapshot, context)
        asked = replace(request, context=context, dockerfile_text=text, ignorefile=rules)
        result = build(asked, store=store)
    except Cancelled:
        raise
    except MinibuildError as error:
        last = next((one for one in Builds(store).all() if one.id not in before), None)
        rows = _rows(last.steps, [stage.name for stage in last.stages]) if last is not None else ()
        return Built(rows, one_line(error), sum(row.hit for row in rows))
    record = Builds(store).get(result.build)
    assert record is not None, result.build
    rows = _rows(record.steps, [stage.name for stage in record.stages])
    return Built(rows, most_hits=sum(row.hit for row in rows))


def _rows(steps: tuple[JournalRow, ...], stages: list[str]) -> tuple[StepRow, ...]:
    """The steps in the plan's order, as a replay has them."""
    done = [step for step in steps if step.key]
    return tuple(
        StepRow(
            stage=step.stage,
            number=step.number,
            name=step.name,
            instruction=step.instruction,
            hit=step.hit,
            cause=step.cause.kind if step.cause is not None else "",
            key=step.key,
            seconds=step.saved if step.hit else step.seconds,
            bytes=step.bytes,
        )
        for step in sorted(done, key=lambda row: (stages.index(row.stage), row.number))
    )


def write_context(snapshot: Snapshot, folder: Path) -> None:
    """Make `folder` what a clone at the commit holds; every file has the commit's time.

    What is there already and is the same stays.
    """
    view = GitView(snapshot, None, {})
    files = GitFiles(view, {})
    root = os.fsencode(folder)
    os.makedirs(root, mode=0o755, exist_ok=True)
    os.chmod(root, 0o755)
    wanted = {row.entry.path: row for row in view.walk(b"") if row.entry.path}
    there = {row.entry.path: row.entry for row in FolderView(str(folder)).walk(b"") if row.entry.path}
    for path in sorted(there, reverse=True):
        entry = wanted[path].entry if path in wanted else None
        if entry is None or entry.kind is not there[path].kind or entry.kind is Kind.SYMLINK:
            full = root + b"/" + path
            os.rmdir(full) if there[path].kind is Kind.DIR else os.unlink(full)
    for path, row in wanted.items():
        full = root + b"/" + path
        if row.entry.kind is Kind.DIR:
            os.makedirs(full, mode=0o755, exist_ok=True)
            os.chmod(full, 0o755)
        elif row.entry.kind is Kind.SYMLINK:
            os.symlink(row.entry.link, full)
        else:
            _write(full, files.data(row.where), row.entry.mode)
    seconds = snapshot.commit.time
    for path in sorted(wanted, reverse=True):  # folders after what is in them
        os.utime(root + b"/" + path, (seconds, seconds), follow_symlinks=False)
    os.utime(root, (seconds, seconds))


def _write(path: bytes, data: bytes, mode: int) -> None:
    try:
        with open(path, "rb") as file:
            same = file.read() == data
    except FileNotFoundError:
        same = False
    if not same:
        with open(path, "wb") as file:
            file.write(data)
    os.chmod(path, mode)


def executed_replay(
    history: History, spec: ReplaySpec, progress: Callable[[int, int], None], temporary: Path | None = None
) -> Replay:
    """All variants, every commit built for real; `progress` hears of commits done and to do."""
    start = time.monotonic()
    total, done = len(spec.commits) * len(spec.variants), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    outcomes = tuple(
        execute(history, spec, variant, tick=tick, temporary=temporary) for variant in spec.variants
    )
    return Replay(tuple(spec.commits), outcomes, (), time.monotonic() - start, executed=True)


def agreement(thought: Replay, real: Replay) -> list[str]:
    """How far keys alone agree with what was built, a line a variant."""
    lines = []
    for guess, truth in zip(thought.outcomes, real.outcomes, strict=True):
        same = total = 0
        for expected, built in zip(guess.builds, truth.builds, strict=True):
            mine, theirs = by_step(expected), by_step(built)
            for one in mine.keys() | theirs.keys():
                total += 1
                same += one in mine and one in theirs and mine[one].hit == theirs[one].hit
        lines.append(f"{guess.variant.name}: keys alone say the same of {same} of {total} executed steps")
    return lines
