"""``minibuild cache prune`` and ``gc``: what may go, goes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli import options
from minibuild.cli.exits import reported
from minibuild.cli.sink import human_size
from minibuild.cli.things import Filters, as_document, matcher, short

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.cache.collect import Collected
    from minibuild.cache.eviction import Policy

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")]
_Keep = Annotated[str, typer.Option("--keep-storage", help="The most to keep, as 10GB.")]
_Free = Annotated[str, typer.Option("--min-free", help="Room to make on the disk, as 10GB.")]
_Age = Annotated[str, typer.Option("--max-age", help="What was not used for so long goes, as 14d.")]


def register(group: typer.Typer) -> None:
    group.command("prune", help="Remove what no tag, pin or running build keeps.")(prune)
    group.command("gc", help="Remove what nothing refers to, and keep the cap.")(gc)


def prune(
    everything: Annotated[bool, typer.Option("-a", "--all", help="Forget tagged images' steps too.")] = False,
    filters: Filters = None,
    keep_storage: _Keep = "",
    min_free: _Free = "",
    max_age: _Age = "",
    dry_run: _DryRun = False,
    as_json: _Json = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Accepted; nothing is asked.")] = False,
) -> None:
    from minibuild.cache.eviction import Policy

    with reported(), options.open_store() as store:
        keep, age = _limits(store, keep_storage, min_free, max_age)
        policy = Policy(
            keep_bytes=keep,
            max_age=age,
            everything=keep is None and age is None,
            match=matcher(filters),
            tagged=everything,
        )
        _collect(store, policy, dry_run, as_json)


def gc(
    keep_storage: _Keep = "",
    min_free: _Free = "",
    max_age: _Age = "",
    dry_run: _DryRun = False,
    as_json: _Json = False,
) -> None:
    from minibuild.cache.eviction import Policy
    from minibuild.engine.upkeep import cap_from

    with reported(), options.open_store() as store:
        keep, age = _limits(store, keep_storage, min_free, max_age)
        _collect(store, Policy(cap_from(os.environ) if keep is None else keep, age), dry_run, as_json)


def _limits(store: Store, keep_storage: str, min_free: str, max_age: str) -> tuple[int | None, float | None]:
    """What may stay in bytes, and its age in seconds; None for no limit."""
    from minibuild.engine.upkeep import keep_for, parse_size

    keep = parse_size(keep_storage, "--keep-storage") if keep_storage else None
    if min_free:
        keep = keep_for(store, parse_size(min_free, "--min-free"), keep)
    return keep, options.age(max_age, "--max-age")


def _collect(store: Store, policy: Policy, dry_run: bool, as_json: bool) -> None:
    from minibuild.engine.upkeep import make_room

    done = make_room(store, policy, dry_run=dry_run)
    if as_json:
        print(json.dumps(_collected(done, dry_run), indent=2))
        return
    would = "would be " if dry_run else ""
    for thing in done.plan.things:
        print(f"{thing.id}  {thing.kind:<8}  {human_size(thing.total):>8}  {short(thing.name)}")
    for thing in done.plan.unpacked:
        print(f"{thing.id}  unpacked  {human_size(thing.unpacked):>8}  {short(thing.name)}")
    records = sum(item.kind == "record" for item in done.report.removed)
    left = human_size(done.plan.left)
    print(f"{human_size(done.bytes)} {would}freed, {left} left, {records} records {would}gone")
    if policy.keep_bytes is not None and done.plan.left > policy.keep_bytes:
        print(f"more than {human_size(policy.keep_bytes)} is left: names and pins hold it")
    for folder in done.report.left:
        print(f"left behind: {folder} (run this again as its owner)")


def _collected(done: Collected, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "freed": done.bytes,
        "left": done.plan.left,
        "things": [as_document(thing) for thing in done.plan.things],
        "unpacked": [as_document(thing) for thing in done.plan.unpacked],
        "removed": [item._asdict() for item in done.report.removed],
        "left_behind": [str(folder) for folder in done.report.left],
    }
