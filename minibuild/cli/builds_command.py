"""``minibuild builds``: the records that builds leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from minibuild.cli.exits import reported
from minibuild.cli.options import open_store
from minibuild.cli.sink import human_size
from minibuild.cli.tables import ago, table

if TYPE_CHECKING:
    from minibuild.cache.builds import BuildRecord, Compared

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("ls", help="List builds, the last one first.")(ls)
    group.command("show", help="Show one build: steps, causes, times, critical path.")(show)
    group.command("compare", help="Compare two builds step by step.")(compare)
    group.command("report", help="Write one build as a page of HTML.")(report)
    group.command("metrics", help="Print the records as metrics for Prometheus.")(metrics)
    group.command("rm", help="Forget builds.")(rm)
    app.add_typer(group, name="builds", help="Look at past builds.")


def ls(
    limit: Annotated[int, typer.Option("-n", "--limit", help="At most so many; 0 for all.")] = 20,
    as_json: _Json = False,
) -> None:
    from minibuild.cache.builds import Builds

    with reported(), open_store() as store:
        records = Builds(store).all()
        records = records[:limit] if limit else records
        if as_json:
            for record in records:
                print(json.dumps(record.to_json()))
            return
        rows = [
            (
                record.id,
                record.status,
                ago(record.started),
                f"{record.seconds:.1f}s",
                f"{record.hits}/{len(record.steps)}",
                f"{record.saved:.1f}s",
                human_size(record.bytes),
                ", ".join(record.tags) or record.dockerfile,
            )
            for record in records
        ]
        print(table(("BUILD", "STATUS", "STARTED", "TOOK", "CACHED", "SAVED", "NEW", "NAME"), rows))
        steps = sum(len(record.steps) for record in records)
        hits = sum(record.hits for record in records)
        if steps:
            saved = sum(record.saved for record in records)
            print(f"\n{len(records)} builds, {100 * hits / steps:.0f} % of steps cached, {saved:.1f}s saved")


def show(
    build: Annotated[str, typer.Argument(help="ID, or last, last~1, ...")] = "last",
    as_json: _Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as --summary does.")] = False,
) -> None:
    from minibuild.cache.builds import Builds, critical_path
    from minibuild.cli.causes import cause_lines
    from minibuild.report.summary import markdown as to_markdown

    with reported(), open_store() as store:
        record = Builds(store).find(build)
        if as_json:
            print(json.dumps(record.to_json(), indent=2))
            return
        if markdown:
            print(to_markdown(record), end="")
            return
        print(_head(record))
        for row in record.steps:
            print(f"\n{row.name}")
            for line in cause_lines(row):
                print(f"  {line}")
        path = [row for row in critical_path(record) if not row.hit]
        if path:
            print(f"\nCritical path, {sum(row.seconds for row in path):.1f}s:")
            for row in path:
                print(f"  {row.start:7.2f}s +{row.seconds:.2f}s  {row.name}")


def report(
    build: Annotated[str, typer.Argument(help="ID, or last, last~1, ...")] = "last",
    output: Annotated[str, typer.Option("-o", "--output", help="File to write; - for stdout.")] = "-",
) -> None:
    from pathlib import Path

    from minibuild.cache.builds import Builds
    from minibuild.exporters.target import output_file
    from minibuild.report.page import page

    with reported(), open_store() as store:
        text = page(Builds(store).find(build))
        if output == "-":
            print(text, end="")
            return
        with output_file(Path(output)) as writer:
            writer.write(text.encode("utf-8", "replace"))


def metrics() -> None:
    from minibuild.cache.builds import Builds
    from minibuild.report.metrics import metrics as to_metrics

    with reported(), open_store() as store:
        print(to_metrics(Builds(store).all()), end="")


def _head(record: BuildRecord) -> str:
    lines = [
        f"Build {record.id} of {record.dockerfile}: {record.status}, {ago(record.started)}",
        f"{len(record.steps)} steps, {record.hits} cached, {record.seconds:.1f}s, "
        f"{record.saved:.1f}s saved, {human_size(record.bytes)} of new layers",
    ]
    if record.tags:
        lines.append(f"Tags: {', '.join(record.tags)}")
    if record.image:
        lines.append(f"Image: {record.image}")
    if record.error:
        lines.append(f"Error: {record.error}")
    return "\n".join(lines)


def compare(
    before: Annotated[str, typer.Argument(help="ID, or last~1.")] = "last~1",
    after: Annotated[str, typer.Argument(help="ID, or last.")] = "last",
    as_json: _Json = False,
) -> None:
    from minibuild.cache.builds import Builds
    from minibuild.cache.builds import compare as compare_records

    with reported(), open_store() as store:
        builds = Builds(store)
        old, new = builds.find(before), builds.find(after)
        pairs = compare_records(old, new)
        if as_json:
            print(json.dumps([_document(pair) for pair in pairs], indent=2))
            return
        rows = [_row(pair) for pair in pairs]
        rows.append(("total", f"{old.seconds:.1f}s", f"{new.seconds:.1f}s", "", ""))
        print(table(("STEP", old.id, new.id, "KEY", "WHY"), rows))


def _row(pair: Compared) -> tuple[str, str, str, str, str]:
    row = pair.after or pair.before
    assert row is not None
    cause = pair.after.cause.reason if pair.after is not None and pair.after.cause is not None else ""
    name = row.name.split("\n", 1)[0]
    return (
        name if len(name) <= 60 else name[:59] + "…",
        _took(pair.before),
        _took(pair.after),
        pair.change,
        cause,
    )


def _took(row: object) -> str:
    from minibuild.cache.journal import StepRow

    if not isinstance(row, StepRow):
        return "-"
    return "cached" if row.hit else f"{row.seconds:.1f}s"


def _document(pair: Compared) -> dict[str, object]:
    row = pair.after or pair.before
    assert row is not None
    return {
        "step": row.name,
        "change": pair.change,
        "before": None if pair.before is None else {"hit": pair.before.hit, "seconds": pair.before.seconds},
        "after": None if pair.after is None else {"hit": pair.after.hit, "seconds": pair.after.seconds},
        "cause": pair.after.cause._asdict()
        if pair.after is not None and pair.after.cause is not None
        else None,
    }


def rm(builds: Annotated[list[str], typer.Argument(help="IDs.")]) -> None:
    from minibuild.cache.builds import Builds

    with reported(), open_store() as store:
        for name in builds:
            record = Builds(store).find(name)
            store.records("builds").delete(record.id)
            print(f"Removed: {record.id}")
