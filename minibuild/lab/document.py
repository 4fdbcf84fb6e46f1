"""A replay as JSON and CSV: everything the tables and the page show comes from here."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

from minibuild.lab.advise import Report
from minibuild.lab.measures import LEVEL, RESAMPLES, Interval, Measured, Summary
from minibuild.lab.replay import Outcome, Replay, by_step, step_ids

FORMAT = 1


def document(replay: Replay, measured: Measured, notes: list[str]) -> dict[str, Any]:
    """The whole replay. Seconds are floats, bytes whole numbers, times seconds since the epoch.

    ``builds[i].states`` has a letter a step of ``steps``: ``h`` hit, ``m`` miss, ``-`` not there.
    """
    counted = set(measured.counted)
    return {
        "format": FORMAT,
        "executed": replay.executed,
        "seconds": round(replay.seconds, 3),
        "notes": notes,
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": measured.seed, "paired": True},
        "commits": [
            {
                "id": one.id,
                "time": one.time,
                "subject": one.subject,
                "counted": number in counted,
            }
            for number, one in enumerate(replay.commits)
        ],
        "variants": [
            _variant(outcome, summary, measured, number)
            for number, (outcome, summary) in enumerate(zip(replay.outcomes, measured.summaries, strict=True))
        ],
        "costs": _costs(replay),
    }


def _variant(outcome: Outcome, summary: Summary, measured: Measured, number: int) -> dict[str, Any]:
    return {
        "name": summary.name,
        "dockerfile": outcome.variant.dockerfile.label,
        "cache": "registry" if outcome.variant.shared else "local",
        "room": str(outcome.variant.room),
        "summary": _summary(summary),
        "steps": _steps(outcome, measured),
        "builds": _builds(outcome, measured, number),
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        key: dict(zip(("value", "low", "high"), _rounded(value), strict=True))
        if isinstance(value, Interval)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for key, value in summary._asdict().items()
    }


def _rounded(interval: Interval) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in interval)


def _steps(outcome: Outcome, measured: Measured) -> list[dict[str, Any]]:
    """Each instruction over the counted commits: how often it hit, why it missed, what that cost."""
    rows: list[dict[str, Any]] = []
    counted = [by_step(outcome.builds[number]) for number in measured.counted]
    for one in step_ids(outcome):
        found = [steps[one] for steps in counted if one in steps]
        misses = [step for step in found if not step.hit]
        rows.append(
            {
                "stage": one[0],
                "instruction": one[1],
                "builds": len(found),
                "hits": len(found) - len(misses),
                "causes": dict(Counter(step.cause for step in misses).most_common()),
                "assumed": sum(step.assumed for step in found),
                "seconds": round(sum(step.seconds for step in misses), 3),
                "saved": round(sum(step.seconds for step in found if step.hit), 3),
                "bytes": sum(step.bytes for step in misses),
            }
        )
    return rows


def _builds(outcome: Outcome, measured: Measured, number: int) -> list[dict[str, Any]]:
    order = step_ids(outcome)
    rows: list[dict[str, Any]] = []
    for place, built in enumerate(outcome.builds):
        steps = by_step(built)
        row: dict[str, Any] = {
            "states": "".join("-" if one not in steps else "h" if steps[one].hit else "m" for one in order)
        }
        figures = measured.figures[number][place]
        if figures is None:
            row["error"] = built.error
        else:
            row |= {
                "steps": figures.steps,
                "hits": figures.hits,
                "most_hits": figures.most,
                "spent": round(figures.spent, 3),
                "saved": round(figures.saved, 3),
                "written": figures.written,
                "pulled": figures.pulled,
            }
        rows.append(row)
    return rows


def failures(document: dict[str, Any]) -> list[str]:
    """A sentence for each variant of which builds fail: how many, and the last one's fault."""
    lines = []
    for variant in document["variants"]:
        errors = [built["error"] for built in variant["builds"] if "error" in built]
        if errors:
            several = f" ({variant['name']})" if len(document["variants"]) > 1 else ""
            verb = "build fails and does" if len(errors) == 1 else "builds fail and do"
            lines.append(f"{len(errors)}{several} {verb} not count; the last: {errors[-1]}")
    return lines


def _costs(replay: Replay) -> dict[str, dict[str, float]]:
    """What each instruction was taken, or found, to cost when it was last executed: ``--costs`` reads it."""
    found: dict[str, dict[str, float]] = {}
    for outcome in replay.outcomes:
        for built in outcome.builds:
            for step in built.steps:
                if not step.hit or step.instruction not in found:
                    found[step.instruction] = {"seconds": round(step.seconds, 4), "bytes": step.bytes}
    return found


CSV_HEAD = (
    "variant", "commit", "time", "counted", "stage", "number", "instruction", "hit", "cause", "assumed",
    "seconds", "bytes", "pulled", "error",
)  # fmt: skip


def csv_text(replay: Replay, measured: Measured) -> str:
    """A line a step of a commit of a variant; a build that fails has a last line with its error."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    counted = set(measured.counted)
    for outcome in replay.outcomes:
        for number, (commit, built) in enumerate(zip(replay.commits, outcome.builds, strict=True)):
            head = (outcome.variant.name, commit.id, commit.time, int(number in counted))
            for step in built.steps:
                figures = (f"{step.seconds:.4f}", step.bytes, step.pulled, "")
                words = (step.stage, step.number, step.instruction, int(step.hit), step.cause)
                writer.writerow((*head, *words, int(step.assumed), *figures))
            if built.error:
                writer.writerow((*head, "", "", "", "", "", "", "", "", "", built.error))
    return out.getvalue()


def advice_document(report: Report, commits: int, notes: list[str]) -> dict[str, Any]:
    """What was proposed and proved, in the order in which it should be done."""
    return {
        "format": FORMAT,
        "commits": commits,
        "tried": report.tried,
        "advice": [
            {
                "kind": one.proposal.kind,
                "title": one.proposal.title,
                "rule": one.proposal.rule,
                "seconds": round(one.seconds, 3),
                "before": _summary(one.before),
                "after": _summary(one.after),
                "diff": one.diff,
            }
            for one in report.advice
        ],
        "before": _summary(report.first),
        "after": _summary(report.last),
        "dockerfile": report.dockerfile,
        "ignore": report.ignore,
        "notes": [*notes, report.costs],
    }
