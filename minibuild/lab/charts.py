"""Lines and heat maps as SVG that needs no program: what is drawn is also there as numbers, in ``data-``.

A line's ``data-values`` are what it shows, one a commit, empty where a build fails.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

from minibuild.values import NamedTuple

WIDTH = 1200
HEIGHT = 260
LEFT = 64
RIGHT = 16
TOP = 12
BOTTOM = 28
COLOURS = 6
_ROW = 20
_LABEL = 380
_FEW_DAYS = 5 * 86_400
_STATES = {"h": "hit", "m": "missed", "-": "not there", "x": "the build fails"}

Values = Sequence[float | None]


class Line(NamedTuple):
    """One line: `name` says what it shows, `kind` is a class of the style, `number` picks the colour."""

    name: str
    values: Values
    number: int
    kind: str = "main"


def smoothed(values: Values, window: int) -> list[float | None]:
    """Means over up to `window` values around each."""
    found: list[float | None] = []
    for place, value in enumerate(values):
        near = values[max(0, place - window // 2) : place + window // 2 + 1]
        known = [one for one in near if one is not None]
        found.append(sum(known) / len(known) if known and value is not None else None)
    return found


def running_sum(values: Values) -> list[float | None]:
    total = 0.0
    found: list[float | None] = []
    for value in values:
        total += value or 0.0
        found.append(None if value is None else total)
    return found


def chart(name: str, lines: Sequence[Line], times: Sequence[int], *, top: float, unit: str) -> str:
    """A chart of lines over commits, from 0 (or the least value) to `top`."""
    least = min((value for line in lines for value in line.values if value is not None), default=0.0)
    low = min(0.0, least)
    high = max(top, low + 1e-9)
    parts = [
        f'<svg class="chart" data-chart="{escape(name)}" data-low="{low:g}" data-high="{high:g}"',
        f' viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">',
        *_grid(low, high, unit),
        *_days(times),
        *(_line(line, low, high) for line in lines),
        "</svg>",
    ]
    return "".join(parts)


def x_of(place: int, count: int) -> float:
    """The horizontal place of commit `place` of `count`."""
    return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / max(count, 1)


def y_of(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))


def _line(line: Line, low: float, high: float) -> str:
    count = len(line.values)
    segments = []
    for known, group in groupby(enumerate(line.values), key=lambda pair: pair[1] is not None):
        if known:
            points = [
                f"{x_of(place, count):.2f} {y_of(value, low, high):.2f}"
                for place, value in group
                if value is not None
            ]
            segments.append("M" + "L".join(points) + ("h0.01" if len(points) == 1 else ""))
    values = ",".join("" if value is None else f"{value:.6g}" for value in line.values)
    return (
        f'<path class="line {line.kind} c{line.number % COLOURS}" d="{"".join(segments)}"'
        f' data-name="{escape(line.name)}" data-kind="{line.kind}" data-values="{values}">'
        f"<title>{escape(line.name)}</title></path>"
    )


def _grid(low: float, high: float, unit: str) -> Iterator[str]:
    step = _nice((high - low) / 4)
    at = math.ceil(low / step) * step
    while at <= high * (1 + 1e-9):
        y = y_of(at, low, high)
        yield f'<path class="tick" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{at:g}{unit}</text>'
        at += step


def _nice(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(max(step, 1e-9)))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)


def _days(times: Sequence[int]) -> Iterator[str]:
    count = len(times)
    form = "%Y-%m-%d" if count and times[-1] - times[0] > _FEW_DAYS else "%d %b %H:%M"
    for place in sorted({round(part * (count - 1) / 5) for part in range(6)}) if count else ():
        day = datetime.datetime.fromtimestamp(times[place], datetime.UTC)
        x = x_of(place, count)
        anchor = "start" if not place else "end" if place == count - 1 and place else "middle"
        place_text = f'x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        yield f'<text class="quiet" {place_text}>{day.strftime(form)}</text>'


def heat_map(variant: dict[str, Any], commits: Sequence[dict[str, Any]]) -> str:
    """A row an instruction, a column a commit; neighbours of one state are one box."""
    builds, steps = variant["builds"], variant["steps"]
    width = (WIDTH - _LABEL) / max(len(commits), 1)
    height = _ROW * len(steps) + 4
    parts = [f'<svg class="heat" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="hits by commit">']
    for row, step in enumerate(steps):
        states = "".join(
            "x" if "error" in built and built["states"][row] == "-" else built["states"][row]
            for built in builds
        )
        words = " ".join(step["instruction"].split())
        label = words if len(words) <= 52 else words[:51] + "…"
        y = row * _ROW
        parts.append(f'<g data-step="{row}" data-states="{states}">')
        parts.append(
            f'<text x="{_LABEL - 10}" y="{y + 14}" text-anchor="end">{escape(label)}'
            f"<title>{escape(step['stage'])}: {escape(words)}</title></text>"
        )
        parts += _boxes(states, commits, y, width)
        parts.append("</g>")
    parts.append("</svg>")
    return "".join(parts)


def _boxes(states: str, commits: Sequence[dict[str, Any]], y: int, width: float) -> Iterator[str]:
    place = 0
    gap = 1.0 if width > 4 else 0.0
    for state, group in groupby(states):
        count = len(list(group))
        if state != "-":
            x = _LABEL + place * width
            span = commits[place]["id"][:10]
            span += f"…{commits[place + count - 1]['id'][:10]}, {count} commits" if count > 1 else ""
            yield (
                f'<rect class="{state}" x="{x:.2f}" y="{y + 2}" width="{max(count * width - gap, 0.3):.2f}"'
                f' height="{_ROW - 4}"><title>{_STATES[state]}: {escape(span)}</title></rect>'
            )
        place += count
