"""``minibuild cache``: looking after what the store holds; here what is damaged, double, or missed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from minibuild.cli import inventory_command, mounts_command, pin_command, prune_command, tree_command
from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.things import short
from minibuild.errors import UsageError

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    inventory_command.register(group)
    prune_command.register(group)
    pin_command.register(group)
    group.command("verify", help="Read every blob again; name and remove what is damaged.")(verify)
    group.command("dedup", help="Have equal files of unpacked layers share their room on the disk.")(dedup)
    group.command("why", help="Say why a step of the last build was executed.")(why)
    tree_command.register(group)
    mounts_command.register(group)
    app.add_typer(group, name="cache", help="Look after the cache.")


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
                users = f"  used by {', '.join(short(name) for name in one.users)}" if one.users else ""
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
