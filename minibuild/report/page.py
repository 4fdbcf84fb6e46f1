"""A build as one page of HTML that needs nothing else: figures, graph, timeline, and why each step ran."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from html import escape

from minibuild.cache.builds import BuildRecord, critical_path
from minibuild.cache.journal import StepRow
from minibuild.report.graph import graph, state
from minibuild.report.summary import human
from minibuild.report.timeline import timeline

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --quiet: #59636e; --line: #d1d9e0;
  --hit: #dafbe1; --hit-line: #1a7f37; --run: #fff1d6; --run-line: #9a6700; --failed: #ffe0dd;
  --failed-line: #cf222e; --critical: #8250df; --panel: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #f0f6fc; --quiet: #9198a1;
  --line: #3d444d; --hit: #12361f; --hit-line: #3fb950; --run: #3d2e05; --run-line: #d29922;
  --failed: #4a1613; --failed-line: #f85149; --critical: #c297ff; --panel: #151b23; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 24px; background: var(--back); color: var(--text);
  font: 14px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 32px 0 8px; }
.quiet, p.quiet { color: var(--quiet); fill: var(--quiet); overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: 8px; margin: 16px 0; }
dl div { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px; }
dt { color: var(--quiet); font-size: 12px; } dd { margin: 0; font-size: 18px; font-weight: 600; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  margin: 6px 0; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font: 12px/1.5 ui-monospace, monospace; }
.scroll { overflow-x: auto; }
svg text { font: 12px ui-monospace, monospace; fill: var(--text); }
svg text.quiet { font: 11px system-ui, sans-serif; fill: var(--quiet); }
svg text.stage { font: 600 13px system-ui, sans-serif; }
.wait { fill: none; stroke: var(--quiet); stroke-width: 1.2; }
.tick { stroke: var(--line); }
.hit rect { fill: var(--hit); stroke: var(--hit-line); stroke-dasharray: 4 2; }
.run rect { fill: var(--run); stroke: var(--run-line); }
.failed rect { fill: var(--failed); stroke: var(--failed-line); stroke-width: 2; }
.critical rect, path.critical { stroke: var(--critical); stroke-width: 3; }
.legend { display: flex; flex-wrap: wrap; gap: 16px; margin: 8px 0; color: var(--quiet); font-size: 12px; }
.legend svg { vertical-align: -3px; margin-right: 4px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-size: 12px; font-weight: 600; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td code { overflow-wrap: anywhere; }
.mark { border-radius: 10px; padding: 1px 8px; border: 1px solid; font-size: 12px; white-space: nowrap; }
.mark.hit { background: var(--hit); border-color: var(--hit-line); }
.mark.run { background: var(--run); border-color: var(--run-line); }
.mark.failed { background: var(--failed); border-color: var(--failed-line); }
tr.critical td:first-child { box-shadow: inset 4px 0 var(--critical); }
"""
_WORDS = {"hit": "cached", "run": "run", "failed": "failed"}


def page(record: BuildRecord) -> str:
    """The whole document. Nothing in it is loaded from elsewhere and nothing in it is executed."""
    title = ", ".join(record.tags) or record.dockerfile
    path = critical_path(record)
    critical = {(step.stage, step.number): None for step in path}
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy"',
        """ content="default-src 'none'; style-src 'unsafe-inline'">""",
        f"<title>Build {escape(record.id)}: {escape(title)}</title><style>{STYLE}</style></head><body>",
        *_head(record, title, sum(step.seconds for step in path)),
    ]
    if record.steps:
        parts += [
            "<h2>Steps</h2>",
            _LEGEND,
            f'<div class="scroll">{graph(record, critical)}</div>',
            "<h2>Time</h2>",
            timeline(record, critical),
            "<h2>Why</h2>",
            *_table(record, critical),
        ]
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _head(record: BuildRecord, title: str, critical: float) -> Iterator[str]:
    started = datetime.datetime.fromtimestamp(record.started, datetime.UTC)
    yield f"<h1>{escape(title)}</h1>"
    yield (
        f'<p class="quiet">Build <code>{escape(record.id)}</code> of {escape(record.dockerfile)}, '
        f"{started:%Y-%m-%d %H:%M:%S} UTC</p>"
    )
    figures = {
        "status": ("Result", record.status),
        "seconds": ("Took", f"{record.seconds:.1f} s"),
        "steps": ("Steps", str(len(record.steps))),
        "hits": ("Cached", str(record.hits)),
        "saved": ("Saved by the cache", f"{record.saved:.1f} s"),
        "bytes": ("New layers", human(record.bytes)),
        "critical": ("Critical path", f"{critical:.1f} s"),
    }
    yield "<dl>"
    for name, (label, value) in figures.items():
        yield f'<div><dt>{label}</dt><dd data-figure="{name}">{escape(value)}</dd></div>'
    yield "</dl>"
    if record.image:
        yield f'<p class="quiet">Image <code>{escape(record.image)}</code></p>'
    if record.error:
        yield f"<pre>{escape(record.error)}</pre>"


def _sample(kind: str, text: str) -> str:
    box = '<rect x="2" y="2" width="22" height="12" rx="2"/>'
    return f'<span><svg width="26" height="16"><g class="{kind}">{box}</g></svg>{text}</span>'


_LEGEND = (
    '<div class="legend">'
    + _sample("hit", "cached")
    + _sample("run", "run")
    + _sample("failed", "failed")
    + _sample("run critical", "on the critical path")
    + "</div>"
)


def _table(record: BuildRecord, critical: dict[tuple[str, int], None]) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr><th>Step</th><th>Result</th><th>Started</th><th>Seconds</th>'
    yield "<th>Saved</th><th>Layer</th><th>Why</th></tr></thead><tbody>"
    for step in record.steps:
        marked = ' class="critical"' if (step.stage, step.number) in critical else ""
        place = escape(f"{step.stage}/{step.number}")
        saved = f"{step.saved:.2f}" if step.hit else ""
        yield (
            f'<tr{marked} data-step="{place}" data-key="{escape(step.key)}">'
            f"<td><code>{escape(step.name)}</code></td>"
            f'<td><span class="mark {state(step)}">{_WORDS[state(step)]}</span></td>'
            f'<td class="number">{step.start:.2f}</td><td class="number">{step.seconds:.2f}</td>'
            f'<td class="number">{saved}</td><td class="number">{human(step.bytes)}</td>'
            f"<td>{_why(step)}</td></tr>"
        )
    yield "</tbody></table></div>"


def _why(step: StepRow) -> str:
    if step.error:
        return f"<pre>{escape(step.error)}</pre>"
    if step.cause is None:
        return f"from {escape(step.origin)}" if step.origin else ""
    if not step.cause.details:
        return escape(step.cause.reason)
    details = escape("\n".join(step.cause.details))
    return f"<details><summary>{escape(step.cause.reason)}</summary><pre>{details}</pre></details>"
