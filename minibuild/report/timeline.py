"""When each step of a build ran: a bar a step, as wide as the time it took."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from html import escape

from minibuild.cache.builds import BuildRecord
from minibuild.cache.journal import StepRow
from minibuild.report.graph import Step, first_line, state

_ROW = 24
_TOP = 24
_NAMES = 36  # the names' share of the width, in per cent


def timeline(record: BuildRecord, critical: Collection[Step]) -> str:
    """An SVG element as wide as the page; bars of steps in `critical` are marked."""
    if not record.steps:
        return ""
    rows = sorted(record.steps, key=lambda row: (row.start, row.start + row.seconds))
    total = max(record.seconds, *(row.start + row.seconds for row in rows), 0.001)
    height = _TOP + _ROW * len(rows)
    lines = [
        f'<svg class="timeline" width="100%" height="{height}" role="img" aria-label="Steps over time">',
        f'<svg x="0" y="0" width="{_NAMES - 1}%" height="{height}">',
    ]
    for number, row in enumerate(rows):
        y = _TOP + number * _ROW + 16
        lines.append(f'<text x="0" y="{y}">{escape(first_line(row.name, 70))}</text>')
    lines.append("</svg>")
    lines.append(f'<svg x="{_NAMES}%" y="0" width="{98 - _NAMES}%" height="{height}" overflow="visible">')
    lines += _ticks(total, height)
    lines += [_bar(row, number, total, critical) for number, row in enumerate(rows)]
    lines.append("</svg></svg>")
    return "\n".join(lines)


def _ticks(total: float, height: int) -> Iterator[str]:
    """Lines at round times, four to ten of them."""
    power = 10.0 ** math.floor(math.log10(total))
    unit = next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1.0) if total / (power * part) <= 10)
    for number in range(int(total / unit) + 1):
        x = 100 * number * unit / total
        yield f'<line class="tick" x1="{x:.3f}%" x2="{x:.3f}%" y1="{_TOP - 4}" y2="{height}"/>'
        yield f'<text class="quiet" x="{x:.3f}%" y="12">{number * unit:g} s</text>'


def _bar(row: StepRow, number: int, total: float, critical: Collection[Step]) -> str:
    marked = " critical" if (row.stage, row.number) in critical else ""
    y = _TOP + number * _ROW + 4
    left, width = 100 * row.start / total, 100 * row.seconds / total
    took = f"{row.seconds:.1f} s" + (" (cached)" if row.hit else " (failed)" if row.error else "")
    end = left + width
    if width > 25:  # in the bar, or beside it on the side that has room
        at, shift, anchor = f"{left:.3f}%", 6, "start"
    elif end < 80:
        at, shift, anchor = f"{end:.3f}%", 6, "start"
    else:
        at, shift, anchor = f"{left:.3f}%", -6, "end"
    return (
        f'<g class="step {state(row)}{marked}" data-step="{escape(f"{row.stage}/{row.number}")}" '
        f'data-start="{row.start:.6f}" data-seconds="{row.seconds:.6f}">'
        f"<title>{escape(row.name)}: from {row.start:.2f} s, {took}</title>"
        f'<rect x="{left:.4f}%" y="{y}" width="{max(width, 0.15):.4f}%" height="{_ROW - 8}" rx="2"/>'
        f'<text class="quiet" x="{at}" y="{y + 12}" dx="{shift}" text-anchor="{anchor}">{took}</text></g>'
    )
