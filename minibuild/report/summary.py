"""A build as Markdown, for the pages of CI systems (GitHub's ``$GITHUB_STEP_SUMMARY``, a GitLab comment)."""

from __future__ import annotations

from collections.abc import Iterator

from minibuild.cache.builds import BuildRecord, critical_path
from minibuild.cache.journal import StepRow

_MARKS = {"done": "✅", "failed": "❌", "cancelled": "⏹️"}


def markdown(record: BuildRecord) -> str:
    """Figures, a table of steps with causes, what changed in a fold, the critical path."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: BuildRecord) -> Iterator[str]:
    name = ", ".join(record.tags) or record.dockerfile.rpartition("/")[2]
    yield f"### {_MARKS.get(record.status, '')} minibuild: {_cell(name)}"
    yield ""
    total = len(record.steps)
    rate = f" ({100 * record.hits // total} %)" if total else ""
    yield (
        f"**{total} steps, {record.hits} cached{rate}**, {record.seconds:.1f} s, "
        f"{record.saved:.1f} s saved by the cache, {human(record.bytes)} of new layers. Build `{record.id}`."
    )
    if record.error:
        yield f"\n```\n{record.error}\n```"
    yield ""
    if record.steps:
        yield "| step | | seconds | size | why |"
        yield "|---|---|---:|---:|---|"
        for step in record.steps:
            yield _row(step)
    missed = [step for step in record.steps if step.cause is not None and step.cause.details]
    if missed:
        yield "\n<details><summary>What changed</summary>\n"
        for step in missed:
            assert step.cause is not None
            yield f"{_code(step.name)}\n\n```diff"
            yield from (line.replace("```", "'''") for line in step.cause.details)
            yield "```\n"
        yield "</details>"
    path = [step for step in critical_path(record) if not step.hit]
    if path:
        yield ""
        yield "Critical path: " + " → ".join(f"{_code(step.name)} {step.seconds:.1f} s" for step in path)


def _row(step: StepRow) -> str:
    if step.hit:
        why = f"from {step.origin}" if step.origin else ""
        return f"| {_code(step.name)} | cached | ({step.saved:.1f}) | {human(step.bytes)} | {_cell(why)} |"
    if step.error:
        return f"| {_code(step.name)} | **failed** | {step.seconds:.1f} | | {_cell(step.error)} |"
    why = step.cause.reason if step.cause is not None else ""
    return f"| {_code(step.name)} | **run** | {step.seconds:.1f} | {human(step.bytes)} | {_cell(why)} |"


def _code(text: str) -> str:
    line = text.split("\n", 1)[0]
    line = line if len(line) <= 80 else line[:79] + "…"
    return (
        "`` " + line.replace("|", "\\|") + " ``" if "`" in line else f"`{line.replace('|', chr(92) + '|')}`"
    )


def _cell(text: str) -> str:
    text = text.replace("|", "\\|").replace("\n", " ")
    for mark in "<>*_`":
        text = text.replace(mark, "\\" + mark)
    return text


def human(count: float) -> str:
    """Bytes as people read them: ``12.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
