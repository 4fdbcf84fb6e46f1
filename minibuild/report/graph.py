"""The steps of a build as a drawing: a column a stage, a line down for every wait."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from html import escape

from minibuild.cache.builds import BuildRecord, waited_for
from minibuild.cache.journal import StepRow
from minibuild.values import NamedTuple

_WIDTH, _HEIGHT = 236, 40
_COLUMN, _ROW = 272, 66
_HEAD = 44

Step = tuple[str, int]
"""A step's stage and number."""


class _Box(NamedTuple):
    x: int
    y: int

    @property
    def middle(self) -> int:
        return self.x + _WIDTH // 2

    @property
    def bottom(self) -> int:
        return self.y + _HEIGHT


def state(step: StepRow) -> str:
    """``hit``, ``run`` or ``failed``: the class by which a step is coloured."""
    return "failed" if step.error else "hit" if step.hit else "run"


def first_line(text: str, length: int) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= length else line[: length - 1] + "…"


def graph(record: BuildRecord, critical: Collection[Step]) -> str:
    """An SVG element; steps in `critical`, and the waits between them, are marked."""
    waited = waited_for(record)
    boxes = _boxes(record, waited)
    if not boxes:
        return ""
    stages = [stage for stage in record.stages if record.of_stage(stage.name)]
    width = len(stages) * _COLUMN
    height = max(box.bottom for box in boxes.values()) + 8
    lines = [
        f'<svg class="graph" width="{width}" height="{height}" role="img" aria-label="Steps and their waits">'
    ]
    for column, stage in enumerate(stages):
        x = column * _COLUMN + 4
        base = stage.base.removeprefix("image ").partition("@")[0]
        lines.append(f'<text class="stage" x="{x}" y="16">{escape(first_line(stage.name, 30))}</text>')
        lines.append(f'<text class="quiet" x="{x}" y="33">{escape(first_line(base, 34))}</text>')
    lines += _edges(boxes, waited, critical)
    lines += [_node(step, boxes[step.stage, step.number], critical) for step in record.steps]
    lines.append("</svg>")
    return "\n".join(lines)


def _boxes(record: BuildRecord, waited: Mapping[Step, list[StepRow]]) -> dict[Step, _Box]:
    """Where each step is drawn: as far down as the longest chain of waits above it."""
    depth: dict[Step, int] = {}
    for step, before in waited.items():  # stages come after those that they wait for
        depth[step] = 1 + max((depth.get((row.stage, row.number), -1) for row in before), default=-1)
    columns: dict[str, int] = {}
    for stage in record.stages:
        if record.of_stage(stage.name):
            columns[stage.name] = len(columns)
    return {
        step: _Box(columns[step[0]] * _COLUMN + 4, _HEAD + rank * _ROW)
        for step, rank in depth.items()
        if step[0] in columns
    }


def _edges(
    boxes: Mapping[Step, _Box], waited: Mapping[Step, list[StepRow]], critical: Collection[Step]
) -> Iterator[str]:
    order = list(critical)
    links = set(itertools.pairwise(order))
    for step, before in waited.items():
        for row in before:
            source = (row.stage, row.number)
            start, end = boxes[source], boxes[step]
            bend = max(24, (end.y - start.bottom) // 2)
            path = f"M{start.middle} {start.bottom} C{start.middle} {start.bottom + bend}"
            path += f" {end.middle} {end.y - bend} {end.middle} {end.y}"
            marked = " critical" if (source, step) in links else ""
            yield f'<path class="wait{marked}" d="{path}"/>'


def _node(step: StepRow, box: _Box, critical: Collection[Step]) -> str:
    marked = " critical" if (step.stage, step.number) in critical else ""
    place = f"{step.stage}/{step.number}"
    if step.hit:
        took = f"cached, {step.saved:.1f} s saved"
    else:
        took = f"{'failed after' if step.error else 'run,'} {step.seconds:.1f} s"
    return (
        f'<g class="step {state(step)}{marked}" data-step="{escape(place)}">'
        f"<title>{escape(step.name)}</title>"
        f'<rect x="{box.x}" y="{box.y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4"/>'
        f'<text x="{box.x + 10}" y="{box.y + 17}">{escape(first_line(step.instruction, 29))}</text>'
        f'<text class="quiet" x="{box.x + 10}" y="{box.y + 32}">{took}</text></g>'
    )
