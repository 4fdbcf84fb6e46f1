"""``minibuild cache mounts``: the folders of RUN --mount=type=cache."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import isolation as checked
from minibuild.cli.options import open_store, registry_options
from minibuild.cli.sink import human_size
from minibuild.cli.tables import ago, table
from minibuild.errors import UsageError

if TYPE_CHECKING:
    from minibuild.sandbox.client import Sandbox

_Ids = Annotated[list[str] | None, typer.Option("--id", help="Only mounts with this id; repeatable.")]
_Isolation = Annotated[
    str, typer.Option("--isolation", envvar="MINIBUILD_ISOLATION", help="auto, or a mode doctor names.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(group: typer.Typer) -> None:
    mounts = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    mounts.command("ls", help="List the cache mounts.")(ls)
    mounts.command("export", help="Write cache mounts to a tar file.")(export)
    mounts.command("import", help="Fill cache mounts from a file or a shared cache.")(import_)
    mounts.command("rm", help="Remove cache mounts.")(rm)
    group.add_typer(mounts, name="mounts", help="The folders of RUN --mount=type=cache.")


@contextmanager
def _sandbox(isolation: str) -> Iterator[Sandbox]:
    from minibuild.sandbox.client import Sandbox

    with Sandbox.start(checked(isolation)) as sandbox:
        yield sandbox


def ls(ids: _Ids = None, as_json: _Json = False) -> None:
    from minibuild.cache.inventory import Inventory
    from minibuild.engine.mountfiles import chosen

    with reported(), open_store() as store:
        found = chosen(store, ids or ())
        things = [thing for thing in Inventory(store).things if thing.kind == "mount"]
        rows = []
        for mount in found:
            own = [thing for thing in things if thing.folder.partition("-")[0] == mount.identity.folder]
            row = {
                **mount.identity._asdict(),
                "id": mount.identity.shown,
                "folder": mount.identity.folder,
                "sharing": mount.sharing,
                "used": mount.used_ns / 1e9,
                "bytes": sum(thing.total for thing in own),
                "kept": next((thing.kept for thing in own if thing.kept), ""),
            }
            rows.append(row)
        if as_json:
            print(json.dumps(rows, indent=2))
            return
        cells = [
            (
                str(row["folder"])[:12],
                human_size(row["bytes"]),
                str(row["sharing"]),
                f"{row['uid']}:{row['gid']}",
                f"{row['mode']:04o}",
                ago(row["used"]),
                str(row["kept"]),
                str(row["id"]),
            )
            for row in rows
        ]
        print(table(("FOLDER", "SIZE", "SHARING", "OWNER", "MODE", "USED", "KEPT BY", "ID"), cells))


def export(
    file: Annotated[str, typer.Argument(help="The tar file to write; - for stdout.")],
    ids: _Ids = None,
    isolation: _Isolation = "auto",
) -> None:
    from minibuild.engine.mountfiles import chosen, export_mounts

    with reported(), open_store() as store:
        mounts = chosen(store, ids or ())
        if not mounts:
            raise UsageError("there are no cache mounts here", cure="Build something that uses one first.")
        with _sandbox(isolation) as sandbox:
            done = export_mounts(store, sandbox, mounts, sys.stdout.buffer if file == "-" else Path(file))
        for mount in done:
            size = human_size(mount.layer.descriptor.size)
            print(f"exported: {mount.identity.shown}  {size}", file=sys.stderr if file == "-" else None)


def import_(
    source: Annotated[
        str,
        typer.Argument(help="What export wrote, - for stdin, or a cache as type=registry,..."),
    ],
    ids: _Ids = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where there are files here.")] = False,
    isolation: _Isolation = "auto",
    insecure_registry: Annotated[
        list[str] | None, typer.Option("--insecure-registry", help="Plain http.")
    ] = None,
) -> None:
    from minibuild.engine.mountfiles import import_mounts

    with reported(), open_store() as store, _sandbox(isolation) as sandbox:
        done = import_mounts(
            store,
            sandbox,
            sys.stdin.buffer if source == "-" else source,
            ids or (),
            replace=replace,
            registry=registry_options(None, insecure_registry),
        )
        for one in done:
            print(f"{one.identity.shown}: {one.outcome}")


def rm(
    names: Annotated[list[str], typer.Argument(help="Ids, or what folders of cache mounts ls begin with.")],
    isolation: _Isolation = "auto",
) -> None:
    from minibuild.cache.collect import remove_mount
    from minibuild.engine.mountfiles import chosen
    from minibuild.engine.upkeep import remover

    with reported(), open_store() as store, remover(checked(isolation)) as remove:
        mounts = chosen(store, names)
        folders = os.listdir(store.caches)
        busy = []
        for mount in mounts:
            own = [name for name in folders if name.partition("-")[0] == mount.identity.folder]
            if all([remove_mount(store, name, remove) for name in own]):
                print(f"Removed: {mount.identity.shown}")
            else:
                busy.append(mount.identity.shown)
        if busy:
            raise UsageError(f"a build uses cache mount {', '.join(busy)}", cure="Try again later.")
