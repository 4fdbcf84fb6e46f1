"""``minibuild cache``: what the store holds, what may go, what is damaged, why a step missed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli import mounts_command, tree_command
from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.tables import ago, table
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild_store.store import Store

    from minibuild.cache.collect import Collected, Policy
    from minibuild.cache.inventory import Inventory, Thing
    from minibuild.cache.usage import Usage

_FILTERS = ("type", "id", "name", "until", "kept")
_Texts = list[str] | None
_Filter = Annotated[_Texts, typer.Option("--filter", help="type=, id=, name= or until=; repeatable.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")]
_Keep = Annotated[str, typer.Option("--keep-storage", help="The most to keep, as 10GB.")]
_Free = Annotated[str, typer.Option("--min-free", help="Room to make on the disk, as 10GB.")]
_Age = Annotated[str, typer.Option("--max-age", help="What was not used for so long goes, as 14d.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("du", help="Show what the store takes, by kind.")(du)
    group.command("ls", help="List what can be evicted, the least worth keeping last.")(ls)
    group.command("prune", help="Remove what no tag, pin or running build keeps.")(prune)
    group.command("gc", help="Remove what nothing refers to, and keep the cap.")(gc)
    group.command("pin", help="Keep a step, layer or cache mount from eviction.")(pin)
    group.command("unpin", help="Let something be evicted again.")(unpin)
    group.command("verify", help="Read every blob again; name and remove what is damaged.")(verify)
    group.command("dedup", help="Have equal files of unpacked layers share their room on the disk.")(dedup)
    group.command("why", help="Say why a step of the last build was executed.")(why)
    tree_command.register(group)
    mounts_command.register(group)
    app.add_typer(group, name="cache", help="Look after the cache.")


def du(
    filters: _Filter = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show every thing too.")] = False,
    as_json: _Json = False,
) -> None:
    from minibuild.cache.inventory import KINDS, Inventory
    from minibuild.cache.usage import Usage

    with reported(), open_store() as store:
        inventory = Inventory(store)
        things = [thing for thing in inventory.things if _matcher(filters)(thing)]
        kinds = [(kind, [thing for thing in things if thing.kind == kind]) for kind in KINDS]
        usage = Usage(store, inventory)
        if as_json:
            document: dict[str, object] = {
                **_totals(things, usage),
                "kinds": {
                    kind: {
                        "count": len(found),
                        "bytes": sum(thing.bytes for thing in found),
                        "unpacked": sum(thing.unpacked for thing in found),
                        "reclaimable": sum(thing.total for thing in found if not thing.kept),
                    }
                    for kind, found in kinds
                    if found
                },
            }
            if verbose:
                document["things"] = [_document(thing, usage) for thing in things]
            print(json.dumps(document, indent=2))
            return
        if verbose:
            print(_verbose(sorted(things, key=lambda thing: thing.total, reverse=True), usage) + "\n")
        rows = [_du_row(kind, found) for kind, found in kinds if found]
        rows.append(_du_row("total", things))
        print(table(("KIND", "COUNT", "BLOBS", "UNPACKED", "RECLAIMABLE"), rows))
        if verbose:
            print()
            for name, count in _totals(things, usage).items():
                print(f"{name.capitalize() + ':':<12} {human_size(count):>8}")


def _totals(things: list[Thing], usage: Usage) -> dict[str, int]:
    """Bytes; `shared` is what more than one image has, `reclaimable` what nothing keeps."""
    total = sum(thing.total for thing in things)
    shared = sum(thing.total for thing in things if usage.shared(thing))
    return {
        "shared": shared,
        "private": total - shared,
        "reclaimable": sum(thing.total for thing in things if not thing.kept),
        "total": total,
    }


def _verbose(things: list[Thing], usage: Usage) -> str:
    rows = [
        (
            thing.id,
            thing.kind,
            human_size(thing.total),
            "" if thing.kept else "yes",
            "yes" if usage.shared(thing) else "",
            ago(thing.used_ns / 1e9) if thing.used_ns else "",
            _uses(usage, thing),
            _short(thing.name),
        )
        for thing in things
    ]
    return table(("ID", "KIND", "SIZE", "RECLAIMABLE", "SHARED", "USED", "USES", "NAME"), rows)


def _uses(usage: Usage, thing: Thing) -> str:
    count = usage.uses(thing)
    return "" if count is None else str(count)


def _du_row(kind: str, things: list[Thing]) -> tuple[str, ...]:
    return (
        kind,
        str(len(things)),
        human_size(sum(thing.bytes for thing in things)),
        human_size(sum(thing.unpacked for thing in things)),
        human_size(sum(thing.total for thing in things if not thing.kept)),
    )


def ls(filters: _Filter = None, as_json: _Json = False) -> None:
    from minibuild.cache.collect import worth
    from minibuild.cache.inventory import Inventory
    from minibuild.cache.usage import Usage

    with reported(), open_store() as store:
        now = time.time_ns()
        matches = _matcher(filters)
        inventory = Inventory(store)
        usage = Usage(store, inventory)
        things = [thing for thing in inventory.things if matches(thing)]
        things.sort(key=lambda thing: worth(thing, now), reverse=True)
        if as_json:
            for thing in things:
                print(json.dumps(_document(thing, usage)))
            return
        rows = [
            (
                thing.id,
                thing.kind,
                human_size(thing.total),
                f"{thing.seconds:.1f}s",
                ago(thing.used_ns / 1e9) if thing.used_ns else "",
                _uses(usage, thing),
                thing.kept,
                _short(thing.name),
            )
            for thing in things
        ]
        print(table(("ID", "KIND", "SIZE", "COST", "USED", "USES", "KEPT BY", "NAME"), rows))


def _document(thing: Thing, usage: Usage | None = None) -> dict[str, object]:
    counted = {} if usage is None else {"uses": usage.uses(thing), "shared": usage.shared(thing)}
    return {
        **counted,
        "id": thing.id,
        "kind": thing.kind,
        "digest": thing.digest,
        "bytes": thing.bytes,
        "unpacked": thing.unpacked,
        "seconds": thing.seconds,
        "used": thing.used_ns / 1e9,
        "kept": thing.kept,
        "steps": thing.steps,
        "names": thing.names,
    }


def prune(
    everything: Annotated[bool, typer.Option("-a", "--all", help="Forget tagged images' steps too.")] = False,
    filters: _Filter = None,
    keep_storage: _Keep = "",
    min_free: _Free = "",
    max_age: _Age = "",
    dry_run: _DryRun = False,
    as_json: _Json = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Accepted; nothing is asked.")] = False,
) -> None:
    from minibuild.cache.collect import Policy

    with reported(), open_store() as store:
        keep, age = _limits(store, keep_storage, min_free, max_age)
        policy = Policy(
            keep_bytes=keep,
            max_age=age,
            everything=keep is None and age is None,
            match=_matcher(filters),
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
    import os

    from minibuild.cache.collect import Policy
    from minibuild.engine.upkeep import cap_from

    with reported(), open_store() as store:
        keep, age = _limits(store, keep_storage, min_free, max_age)
        _collect(store, Policy(cap_from(os.environ) if keep is None else keep, age), dry_run, as_json)


def _limits(store: Store, keep_storage: str, min_free: str, max_age: str) -> tuple[int | None, float | None]:
    """What may stay in bytes, and its age in seconds; None for no limit."""
    from minibuild.engine.upkeep import keep_for, parse_age, parse_size

    keep = parse_size(keep_storage, "--keep-storage") if keep_storage else None
    if min_free:
        keep = keep_for(store, parse_size(min_free, "--min-free"), keep)
    return keep, parse_age(max_age, "--max-age") if max_age else None


def _collect(store: Store, policy: Policy, dry_run: bool, as_json: bool) -> None:
    from minibuild.engine.upkeep import make_room

    done = make_room(store, policy, dry_run=dry_run)
    if as_json:
        print(json.dumps(_collected(done, dry_run), indent=2))
        return
    would = "would be " if dry_run else ""
    for thing in done.plan.things:
        print(f"{thing.id}  {thing.kind:<8}  {human_size(thing.total):>8}  {_short(thing.name)}")
    for thing in done.plan.unpacked:
        print(f"{thing.id}  unpacked  {human_size(thing.unpacked):>8}  {_short(thing.name)}")
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
        "things": [_document(thing) for thing in done.plan.things],
        "unpacked": [_document(thing) for thing in done.plan.unpacked],
        "removed": [item._asdict() for item in done.report.removed],
        "left_behind": [str(folder) for folder in done.report.left],
    }


def pin(names: Annotated[list[str], typer.Argument(help="IDs of cache ls, digests or step names.")]) -> None:
    from minibuild.cache.inventory import Inventory

    with reported(), open_store() as store:
        inventory = Inventory(store)
        for name in names:
            thing = _find(inventory, name)
            store.records("pins").put(_pin_name(thing), thing.name.encode())
            print(f"Pinned: {thing.id}  {_short(thing.name)}")


def unpin(
    names: Annotated[list[str], typer.Argument(help="IDs of cache ls, digests or step names.")],
) -> None:
    from minibuild.cache.inventory import Inventory

    with reported(), open_store() as store:
        inventory = Inventory(store)
        for name in names:
            thing = _find(inventory, name)
            if thing.kept != "pin":
                raise UsageError(f"{thing.id} is not pinned", cure="minibuild cache ls shows what is.")
            for pinned in (thing.id, str(thing.digest), thing.folder, *thing.steps):
                store.records("pins").delete(pinned)
            print(f"Unpinned: {thing.id}  {_short(thing.name)}")


def _pin_name(thing: Thing) -> str:
    return str(thing.digest) if thing.digest is not None else thing.folder


def _find(inventory: Inventory, text: str) -> Thing:
    """The one thing whose ID, digest, key or name `text` is, or begins, or is in."""
    exact = [
        thing for thing in inventory.things if text in (thing.id, thing.folder, thing.digest, *thing.names)
    ]
    begun = [
        thing
        for thing in inventory.things
        if any(one.startswith(text) for one in (thing.id, *thing.steps, str(thing.digest)))
    ]
    within = [thing for thing in inventory.things if any(text in name for name in thing.names)]
    for found in (exact, begun, within):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(thing.id for thing in found[:5])
            raise UsageError(f"{text!r} could be any of {ids}", cure="Name one by its ID.")
    raise UsageError(f"there is no {text!r} in the cache", cure="minibuild cache ls lists what there is.")


def verify(
    keep: Annotated[bool, typer.Option("--keep", help="Leave damaged blobs where they are.")] = False,
    as_json: _Json = False,
) -> None:
    from minibuild.cache.verify import verify as verify_store

    with reported(), open_store() as store:
        result = verify_store(store, repair=not keep)
        if as_json:
            document = {
                "blobs": result.blobs,
                "bytes": result.bytes,
                "damaged": [one._asdict() for one in result.damaged],
                "removed": not keep,
            }
            print(json.dumps(document, indent=2))
        else:
            for one in result.damaged:
                users = f"  used by {', '.join(_short(name) for name in one.users)}" if one.users else ""
                print(f"damaged: {one.digest}  {human_size(one.size)}{users}")
            then = "" if keep or not result.damaged else "; removed, the next build makes them again"
            count = f"{result.blobs} blobs, {human_size(result.bytes)} read"
            print(f"{count}, {len(result.damaged)} damaged{then}")
    if result.damaged:
        raise SystemExit(1)


def dedup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be shared; do nothing.")] = False,
    as_json: _Json = False,
) -> None:
    from minibuild.engine.dedup import dedup as dedup_store

    with reported(), open_store() as store:
        done = dedup_store(store, dry_run=dry_run)
        if as_json:
            print(json.dumps({"dry_run": dry_run, **done._asdict()}, indent=2))
            return
        print(f"{done.files} files, {human_size(done.bytes)} looked at")
        would = "would share" if dry_run else "now share"
        before = f", {human_size(done.before_bytes)} did before" if done.before_bytes else ""
        print(f"{done.shared_files} files, {human_size(done.shared_bytes)} {would} others' room{before}")
        if done.failed:
            print(f"{done.failed} files could not be shared")


def why(
    step: Annotated[str, typer.Argument(help="Part of the step's line, or its number; all by default.")] = "",
    build: Annotated[str, typer.Option("--build", help="Another build than the last: its ID.")] = "last",
) -> None:
    from minibuild.cache.builds import Builds
    from minibuild.cli.causes import cause_lines

    with reported(), open_store() as store:
        record = Builds(store).find(build)
        rows = list(record.steps)
        if step:
            rows = [row for row in rows if step in row.name or step.lower() in row.instruction.lower()]
            if not rows:
                raise UsageError(
                    f"build {record.id} has no step with {step!r} in it",
                    cure=f"minibuild builds show {record.id} lists its steps.",
                )
        for row in rows:
            print(row.name)
            for line in cause_lines(row):
                print(f"  {line}")


def _short(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= 70 else line[:69] + "…"


def _matcher(filters: _Texts) -> Callable[[Thing], bool]:
    """Whether a thing passes every ``--filter KEY=VALUE``; raises `UsageError`."""
    from minibuild.cache.inventory import KINDS
    from minibuild.dockerfile.suggest import did_you_mean
    from minibuild.engine.upkeep import parse_age

    tests: list[Callable[[Thing], bool]] = []
    for text in filters or ():
        key, equals, value = text.partition("=")
        if key not in _FILTERS or not equals:
            hint = did_you_mean(key, _FILTERS)
            raise UsageError(
                f"--filter {text!r} is none{hint}", cure="Known are type=, id=, name=, until=, kept=."
            )
        if key == "type" and value not in KINDS:
            hint = did_you_mean(value, KINDS)
            raise UsageError(
                f"--filter type={value}: no such type{hint}", cure=f"Known are {', '.join(KINDS)}."
            )
        tests.append(_test(key, value, parse_age(value, "--filter until") if key == "until" else 0.0))
    return lambda thing: all(test(thing) for test in tests)


def _test(key: str, value: str, age: float) -> Callable[[Thing], bool]:
    if key == "type":
        return lambda thing: thing.kind == value
    if key == "id":
        return lambda thing: any(one.startswith(value) for one in (thing.id, *thing.steps, str(thing.digest)))
    if key == "name":
        return lambda thing: any(value in name for name in thing.names)
    if key == "kept":
        return lambda thing: bool(thing.kept) == (value not in ("", "0", "false"))
    return lambda thing: time.time_ns() - thing.used_ns > age * 1e9
