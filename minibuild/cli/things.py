"""What the cache holds, as commands choose it (``--filter``, a name) and show it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.tables import ago
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild.cache.inventory import Inventory, Thing
    from minibuild.cache.usage import Usage

_KEYS = ("type", "id", "name", "until", "kept")
Filters = Annotated[
    list[str] | None, typer.Option("--filter", help="type=, id=, name=, until= or kept=; repeatable.")
]


def matcher(filters: list[str] | None) -> Callable[[Thing], bool]:
    """Whether a thing passes every ``--filter KEY=VALUE``; raises `UsageError`."""
    from minibuild.cache.inventory import KINDS
    from minibuild.dockerfile.suggest import did_you_mean
    from minibuild.engine.upkeep import parse_age

    tests: list[Callable[[Thing], bool]] = []
    for text in filters or ():
        key, equals, value = text.partition("=")
        if key not in _KEYS or not equals:
            hint = did_you_mean(key, _KEYS)
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


def find(inventory: Inventory, text: str) -> Thing:
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


def short(text: str) -> str:
    """The first line of a name, cut where it is long."""
    line = text.split("\n", 1)[0]
    return line if len(line) <= 70 else line[:69] + "…"


def last_used(thing: Thing) -> str:
    """How long ago; "" where that is not known."""
    return ago(thing.used_ns / 1e9) if thing.used_ns else ""


def uses(usage: Usage, thing: Thing) -> str:
    """How many builds used it; "" where that is not counted."""
    count = usage.uses(thing)
    return "" if count is None else str(count)


def as_document(thing: Thing, usage: Usage | None = None) -> dict[str, object]:
    """A thing for ``--json``."""
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
