"""``minibuild cache du`` and ``ls``: what the store holds and what that takes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.tables import table
from minibuild.cli.things import Filters, as_document, last_used, matcher, short, uses

if TYPE_CHECKING:
    from minibuild.cache.inventory import Thing
    from minibuild.cache.usage import Usage

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(group: typer.Typer) -> None:
    group.command("du", help="Show what the store takes, by kind.")(du)
    group.command("ls", help="List what can be evicted, the least worth keeping last.")(ls)


def du(
    filters: Filters = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show every thing too.")] = False,
    as_json: _Json = False,
) -> None:
    from minibuild.cache.inventory import KINDS, Inventory
    from minibuild.cache.usage import Usage

    with reported(), open_store() as store:
        matches = matcher(filters)
        inventory = Inventory(store)
        things = [thing for thing in inventory.things if matches(thing)]
        kinds = [(kind, [thing for thing in things if thing.kind == kind]) for kind in KINDS]
        usage = Usage(store, inventory)
        if as_json:
            shown: dict[str, object] = {
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
                shown["things"] = [as_document(thing, usage) for thing in things]
            print(json.dumps(shown, indent=2))
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


def _du_row(kind: str, things: list[Thing]) -> tuple[str, ...]:
    return (
        kind,
        str(len(things)),
        human_size(sum(thing.bytes for thing in things)),
        human_size(sum(thing.unpacked for thing in things)),
        human_size(sum(thing.total for thing in things if not thing.kept)),
    )


def _verbose(things: list[Thing], usage: Usage) -> str:
    rows = [
        (
            thing.id,
            thing.kind,
            human_size(thing.total),
            "" if thing.kept else "yes",
            "yes" if usage.shared(thing) else "",
            last_used(thing),
            uses(usage, thing),
            short(thing.name),
        )
        for thing in things
    ]
    return table(("ID", "KIND", "SIZE", "RECLAIMABLE", "SHARED", "USED", "USES", "NAME"), rows)


def ls(filters: Filters = None, as_json: _Json = False) -> None:
    from minibuild.cache.eviction import worth
    from minibuild.cache.inventory import Inventory
    from minibuild.cache.usage import Usage

    with reported(), open_store() as store:
        now = time.time_ns()
        matches = matcher(filters)
        inventory = Inventory(store)
        usage = Usage(store, inventory)
        things = [thing for thing in inventory.things if matches(thing)]
        things.sort(key=lambda thing: worth(thing, now), reverse=True)
        if as_json:
            for thing in things:
                print(json.dumps(as_document(thing, usage)))
            return
        rows = [
            (
                thing.id,
                thing.kind,
                human_size(thing.total),
                f"{thing.seconds:.1f}s",
                last_used(thing),
                uses(usage, thing),
                thing.kept,
                short(thing.name),
            )
            for thing in things
        ]
        print(table(("ID", "KIND", "SIZE", "COST", "USED", "USES", "KEPT BY", "NAME"), rows))
