"""Replays and proposals as people read them, made from the same documents as JSON and the page."""

from __future__ import annotations

import datetime
from typing import Any

from minibuild.cli.sink import human_size
from minibuild.cli.tables import table
from minibuild.lab.document import failures

Document = dict[str, Any]
_WIDTH = 72


def replay_text(document: Document, *, commits: bool) -> str:
    """The variants, each variant's instructions, on demand its commits, and the notes."""
    counted = sum(one["counted"] for one in document["commits"])
    how = "executed" if document["executed"] else "by keys alone"
    parts = [
        f"{len(document['commits'])} commits {how}, {counted} counted, in {document['seconds']:.1f}s",
        _variants_table(document),
    ]
    several = len(document["variants"]) > 1
    for variant in document["variants"]:
        if several:
            parts.append(variant["name"])
        parts.append(_steps_table(variant))
        if commits:
            parts.append(_commits_table(document, variant))
    parts.append("\n".join(failures(document)))
    parts.append("\n".join(f"- {note}" for note in document["notes"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _variants_table(document: Document) -> str:
    several = len(document["variants"]) > 1
    pulls = any(one["summary"]["pulled"] for one in document["variants"])
    assumed = any(
        one["summary"]["most_rate"] > one["summary"]["rate"]["value"] + 1e-9 for one in document["variants"]
    )
    head = ["VARIANT", "HIT RATE", *["AT MOST"] * assumed, "SPENT A BUILD", "SAVED A BUILD", "NEW A BUILD"]
    head += ["PULLED A BUILD"] * pulls + ["CACHE", "RATE GAINED", "SECONDS GAINED"][: 3 if several else 1]
    rows = []
    for variant in document["variants"]:
        one = variant["summary"]
        row = [variant["name"], _percent(one["rate"])]
        row += [f"{100 * one['most_rate']:.1f} %"] * assumed
        row += [_seconds(one["spent"]), _seconds(one["saved"]), human_size(one["written"])]
        row += [human_size(one["pulled"])] * pulls + [human_size(one["kept"])]
        if several:
            row += ["-", "-"] if one["gain"] is None else [_points(one["rate_gain"]), _signed(one["gain"])]
        rows.append(row)
    return table(head, rows)


def _steps_table(variant: Document) -> str:
    rows = []
    for step in variant["steps"]:
        if step["builds"]:
            causes = ", ".join(f"{word} {count}" for word, count in step["causes"].items())
            share = f"{100 * step['hits'] / step['builds']:.0f} %"
            count = f"{step['hits']}/{step['builds']}"
            seconds = (f"{step['seconds']:.1f}s", f"{step['saved']:.1f}s")
            rows.append((share, count, *seconds, causes, _shown(step)))
    return table(("HITS", "", "SPENT", "SAVED", "MISSED FOR", "STEP"), rows) if rows else ""


def _shown(step: Document) -> str:
    words = " ".join(step["instruction"].split())
    text = f"[{step['stage']}] {words}" if not step["stage"].startswith("stage-") else words
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _commits_table(document: Document, variant: Document) -> str:
    rows = []
    for commit, built in zip(document["commits"], variant["builds"], strict=True):
        day = datetime.datetime.fromtimestamp(commit["time"], datetime.UTC).strftime("%Y-%m-%d")
        states = built["states"].replace("h", "·").replace("m", "X").replace("-", " ")
        spent = "failed" if "error" in built else f"{built['spent']:.1f}s"
        subject = commit["subject"] if len(commit["subject"]) <= 50 else commit["subject"][:49] + "…"
        rows.append((commit["id"][:10], day, states, spent, subject))
    return table(("COMMIT", "DAY", "STEPS", "SPENT", "SUBJECT"), rows)


def _percent(interval: Document) -> str:
    low, high = (100 * interval[key] for key in ("low", "high"))
    return f"{100 * interval['value']:.1f} % ({low:.1f}–{high:.1f})"


def _seconds(interval: Document) -> str:
    return f"{interval['value']:.1f}s ({interval['low']:.1f}–{interval['high']:.1f})"


def _signed(interval: Document) -> str:
    return f"{interval['value']:+.1f}s ({interval['low']:+.1f} to {interval['high']:+.1f})"


def _points(interval: Document) -> str:
    low, high = (100 * interval[key] for key in ("low", "high"))
    return f"{100 * interval['value']:+.1f} ({low:+.1f} to {high:+.1f})"


def advice_text(document: Document) -> str:
    """Each proposal with its rule, its proof and its diff; what all of them come to."""
    first, last = document["before"], document["after"]
    head = f"{document['commits']} commits, {first['builds']} counted; {document['tried']} changes replayed"
    if not document["advice"]:
        now = f"Now: hit rate {_percent(first['rate'])}, {_seconds(first['spent'])} a build."
        none = "Nothing to propose: no change that is certain to be safe would have saved time."
        return f"{head}\n\n{none}\n{now}\n"
    parts = [head]
    for number, one in enumerate(document["advice"], 1):
        before, after = one["before"], one["after"]
        parts.append(
            f"{number}. {one['title']}\n"
            f"   saves {one['seconds']:.0f}s over these commits, {_signed(after['gain'])} a build: "
            f"hit rate {100 * before['rate']['value']:.1f} % → {100 * after['rate']['value']:.1f} %, "
            f"{before['spent']['value']:.1f}s → {after['spent']['value']:.1f}s a build\n"
            f"   rule: {one['rule']}\n\n" + "\n".join(f"   {line}" for line in one["diff"].splitlines())
        )
    saved = (first["spent"]["value"] - last["spent"]["value"]) * last["builds"]
    parts.append(
        f"All together: {saved:.0f}s saved, hit rate {_percent(first['rate'])} → {_percent(last['rate'])}, "
        f"{_seconds(first['spent'])} → {_seconds(last['spent'])} a build"
    )
    parts.append("\n".join(f"- {note}" for note in document["notes"]))
    return "\n\n".join(part for part in parts if part) + "\n"
