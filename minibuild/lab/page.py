"""A replay as one page of HTML that needs nothing else: the document of `--format json`, drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from minibuild.lab.charts import COLOURS, Line, chart, heat_map, running_sum, smoothed
from minibuild.lab.document import failures
from minibuild.report.page import STYLE
from minibuild.report.summary import human

_STYLE = """
:root { --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #1b7c83;
  --miss: #d4750c; --found: #a7dfb3; --broken: #8c959f; }
@media (prefers-color-scheme: dark) { :root { --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff;
  --c4: #f778ba; --c5: #39c5cf; --miss: #e3902f; --found: #1f5a30; --broken: #6e7681; } }
svg.chart, svg.heat { display: block; width: 100%; height: auto; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.raw { stroke-width: 1; opacity: .28; }
.heat rect.h { fill: var(--found); } .heat rect.m { fill: var(--miss); } .heat rect.x { fill: var(--broken); }
.key { display: inline-block; width: 22px; height: 0; border-top: 3px solid; vertical-align: 4px;
  margin-right: 6px; }
.box { display: inline-block; width: 14px; height: 12px; border-radius: 2px; vertical-align: -1px;
  margin-right: 6px; }
.range { color: var(--quiet); font-size: 12px; white-space: nowrap; }
td.step { width: 45%; } td.name { white-space: nowrap; } ul.notes { color: var(--quiet); padding-left: 18px; }
h3 { font-size: 14px; margin: 24px 0 6px; }
"""
_DASHES = ("", "7 4", "2 4", "10 3 2 3", "5 5", "1 5")
_WINDOW = 40
"""The smooth line is a mean over the commits' number divided by this."""

_HEADS = (
    "Variant", "Hit rate", "At most", "Spent a build", "Saved a build", "New layers", "Pulled",
    "Cache, at most", "Rate gained", "Seconds gained",
)  # fmt: skip

Document = dict[str, Any]


def page(document: Document, title: str) -> str:
    """The whole page. Nothing in it is loaded from elsewhere and nothing in it is executed."""
    numbered = range(COLOURS)
    colours = "".join(f".c{n} {{ stroke: var(--c{n}); stroke-dasharray: {_dash(n)}; }}" for n in numbered)
    keys = "".join(f".key.c{n} {{ border-color: var(--c{n}); }}" for n in numbered)
    data = json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy"',
        """ content="default-src 'none'; style-src 'unsafe-inline'">""",
        f"<title>Hit rates: {escape(title)}</title>",
        f"<style>{STYLE}{_STYLE}{colours}{keys}</style></head><body>",
        *_head(document, title),
        "<h2>Variants</h2>",
        *_variants(document),
        *(f'<p class="failed">{escape(line)}</p>' for line in failures(document)),
        *_charts(document),
        *_maps(document),
        '<h2>What it rests on</h2><ul class="notes">',
        *(f"<li>{escape(note)}</li>" for note in document["notes"]),
        _method(document),
        f'</ul><script type="application/json" id="replay">{data}</script></body></html>\n',
    ]
    return "\n".join(parts)


def _dash(number: int) -> str:
    return _DASHES[number] or "none"


def _head(document: Document, title: str) -> Iterator[str]:
    first = document["variants"][0]["summary"]
    counted = sum(one["counted"] for one in document["commits"])
    how = "built for real" if document["executed"] else "gone through by keys alone"
    yield f"<h1>{escape(title)}</h1>"
    yield (
        f'<p class="quiet">{len(document["commits"])} commits {how} in {document["seconds"]:.1f} s; '
        f"{counted} of them count</p>"
    )
    best = max(document["variants"], key=lambda one: one["summary"]["saved"]["value"])
    several = len(document["variants"]) > 1
    figures = {"First variant": document["variants"][0]["name"]} if several else {}
    figures |= {
        "Hit rate": f"{100 * first['rate']['value']:.1f} %",
        "Spent a build": f"{first['spent']['value']:.1f} s",
        "Saved a build": f"{first['saved']['value']:.1f} s",
        "Saved in all": f"{first['saved']['value'] * first['builds']:.0f} s",
    }
    if several:
        figures["Saves most of all"] = best["name"]
    yield "<dl>"
    yield from (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items())
    yield "</dl>"


def _variants(document: Document) -> Iterator[str]:
    yield '<div class="scroll"><table id="variants"><thead><tr>'
    yield from (f"<th>{head}</th>" for head in _HEADS)
    yield "</tr></thead><tbody>"
    for number, variant in enumerate(document["variants"]):
        one = variant["summary"]
        yield (
            f'<tr data-variant="{number}"><td class="name">{_key(number)}{escape(variant["name"])}</td>'
            f"{_cell('rate', one['rate'], 100, ' %')}"
            f'<td class="number" data-figure="most_rate" data-value="{one["most_rate"]}">'
            f"{100 * one['most_rate']:.1f} %</td>"
            f"{_cell('spent', one['spent'], 1, ' s')}{_cell('saved', one['saved'], 1, ' s')}"
            f'<td class="number">{human(int(one["written"]))}</td>'
            f'<td class="number">{human(int(one["pulled"]))}</td>'
            f'<td class="number">{human(one["kept"])}</td>'
            f"{_cell('rate_gain', one['rate_gain'], 100, '', sign=True)}"
            f"{_cell('gain', one['gain'], 1, ' s', sign=True)}</tr>"
        )
    yield "</tbody></table></div>"


def _cell(name: str, interval: Document | None, factor: float, unit: str, *, sign: bool = False) -> str:
    if interval is None:
        return '<td class="number">–</td>'
    form = "+.1f" if sign else ".1f"
    value, low, high = (format(factor * interval[key], form) for key in ("value", "low", "high"))
    return (
        f'<td class="number" data-figure="{name}" data-value="{interval["value"]}">{value}{unit}'
        f'<br><span class="range">{low} to {high}</span></td>'
    )


def _key(number: int) -> str:
    return f'<span class="key c{number % COLOURS}"></span>'


def _charts(document: Document) -> Iterator[str]:
    times = [commit["time"] for commit in document["commits"]]
    rates, saved = [], []
    for number, variant in enumerate(document["variants"]):
        values = hit_rates(variant)
        smooth = smoothed(values, max(1, len(values) // _WINDOW))
        rates.append(Line(variant["name"], values, number, "raw"))
        rates.append(Line(variant["name"], smooth, number))
        saved.append(Line(variant["name"], running_sum(seconds_saved(variant)), number))
    names = [_key(n) + escape(v["name"]) for n, v in enumerate(document["variants"])]
    legend = '<div class="legend">' + "".join(f"<span>{name}</span>" for name in names) + "</div>"
    yield f"<h2>Hit rate, commit by commit</h2>{legend}"
    yield chart("hit rate", rates, times, top=100.0, unit=" %")
    yield f"<h2>Seconds saved, added up</h2>{legend}"
    most = max((value for line in saved for value in line.values if value is not None), default=1.0)
    yield chart("seconds saved", saved, times, top=most, unit=" s")


def hit_rates(variant: Document) -> list[float | None]:
    """Each build's hit rate in per cent; None where it fails or has no step."""
    return [
        None if not built.get("steps") else 100 * built["hits"] / built["steps"]
        for built in variant["builds"]
    ]


def seconds_saved(variant: Document) -> list[float | None]:
    return [built.get("saved") for built in variant["builds"]]


def _maps(document: Document) -> Iterator[str]:
    yield "<h2>Instructions by commit</h2>"
    yield (
        '<div class="legend"><span><span class="box" style="background:var(--found)"></span>hit</span>'
        '<span><span class="box" style="background:var(--miss)"></span>missed</span>'
        '<span><span class="box" style="background:var(--broken)"></span>the build fails</span></div>'
    )
    for number, variant in enumerate(document["variants"]):
        yield f'<section data-variant="{number}"><h3>{_key(number)}{escape(variant["name"])}</h3>'
        yield f'<div class="scroll">{heat_map(variant, document["commits"])}</div>'
        yield from _steps(variant)
        yield "</section>"


def _steps(variant: Document) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr><th>Step</th><th>Hits</th><th>Spent</th><th>Saved</th>'
    yield "<th>Missed for</th></tr></thead><tbody>"
    for step in variant["steps"]:
        if not step["builds"]:
            continue
        causes = ", ".join(f"{word} {count}" for word, count in step["causes"].items())
        share = 100 * step["hits"] / step["builds"]
        yield (
            f'<tr><td class="step"><code>{escape(step["instruction"])}</code></td>'
            f'<td class="number">{share:.0f} %<br><span class="range">{step["hits"]} of {step["builds"]}'
            f'</span></td><td class="number">{step["seconds"]:.1f} s</td>'
            f'<td class="number">{step["saved"]:.1f} s</td><td>{escape(causes)}</td></tr>'
        )
    yield "</tbody></table></div>"


def _method(document: Document) -> str:
    one = document["interval"]
    return (
        f"<li>ranges are {100 * one['level']:.0f} % intervals of a paired bootstrap over commits "
        f"({one['resamples']} resamples, seed {one['seed']}); gains are against the first variant; "
        f"at most: if every RUN that runs again wrote the same as before</li>"
    )
