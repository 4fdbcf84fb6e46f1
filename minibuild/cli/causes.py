"""Why a step was executed, for people."""

from __future__ import annotations

from collections.abc import Iterator

from minibuild.cache.journal import StepRow


def cause_lines(row: StepRow) -> Iterator[str]:
    """One line on how the step went, then a line for each thing that changed."""
    if row.hit:
        where = f" from {row.origin}" if row.origin else ""
        yield f"cached{where}; saved {row.saved:.1f}s"
        return
    if row.error:
        yield f"failed after {row.seconds:.1f}s: {row.error}"
        return
    yield f"executed in {row.seconds:.1f}s: {row.cause.reason if row.cause is not None else 'unknown'}"
    for line in row.cause.details if row.cause is not None else ():
        yield f"  {line}"
