"""``minibuild cache pin`` and ``unpin``: what is never evicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.things import find, short
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from minibuild.cache.inventory import Thing

_Names = Annotated[list[str], typer.Argument(help="IDs of cache ls, digests or step names.")]


def register(group: typer.Typer) -> None:
    group.command("pin", help="Keep a step, layer or cache mount from eviction.")(pin)
    group.command("unpin", help="Let something be evicted again.")(unpin)


def pin(names: _Names) -> None:
    from minibuild.cache.inventory import Inventory

    with reported(), open_store() as store:
        inventory = Inventory(store)
        for name in names:
            thing = find(inventory, name)
            store.records("pins").put(_pin_name(thing), thing.name.encode())
            print(f"Pinned: {thing.id}  {short(thing.name)}")


def unpin(names: _Names) -> None:
    from minibuild.cache.inventory import Inventory

    with reported(), open_store() as store:
        inventory = Inventory(store)
        pins = set(store.records("pins").names())  # `kept` names a tag first, where there is one
        for name in names:
            thing = find(inventory, name)
            held = pins & {thing.id, str(thing.digest), thing.folder, *thing.steps}
            if not held:
                raise UsageError(f"{thing.id} is not pinned", cure="minibuild cache ls shows what is.")
            for pinned in held:
                store.records("pins").delete(pinned)
            print(f"Unpinned: {thing.id}  {short(thing.name)}")


def _pin_name(thing: Thing) -> str:
    return str(thing.digest) if thing.digest is not None else thing.folder
