"""``build --dry-run``: the plan as people read it, and as programs do."""

from __future__ import annotations

import json
from typing import Any

from minibuild_store.store import Store

from minibuild.cli.sink import Sink
from minibuild.engine.dryrun import PlannedStage, PlannedStep, dry_run, known_plan
from minibuild.engine.request import BuildRequest

_WORDS = {"hit": "cached", "miss": "execute", "unknown": "unknown"}
_KEY_CHARACTERS = 12


def show_plan(request: BuildRequest, store: Store, sink: Sink, *, as_json: bool = False) -> None:
    """Print what a build of `request` would do. Raises a `MinibuildError`."""
    with sink:
        stages = dry_run(request, store=store, sink=sink)
    print(json.dumps(plan_json(stages), indent=2) if as_json else plan_text(stages))


def plan_json(stages: list[PlannedStage]) -> dict[str, Any]:
    """The plan as a document: `key` is None where it is not known, `cause` where a step is cached."""
    hits, misses, unknown = known_plan(stages)
    return {
        "stages": [
            {
                "name": stage.name,
                "base": stage.base,
                "steps": [
                    {
                        "name": step.name,
                        "instruction": step.instruction,
                        "state": _WORDS[step.state],
                        "key": step.key or None,
                        "cause": None if step.cause is None else step.cause._asdict(),
                        "seconds": step.seconds,
                    }
                    for step in stage.steps
                ],
            }
            for stage in stages
        ],
        "cached": hits,
        "execute": misses,
        "unknown": unknown,
    }


def plan_text(stages: list[PlannedStage]) -> str:
    lines: list[str] = []
    for stage in stages:
        lines.append(f"stage {stage.name}, from {stage.base}")
        lines.extend(f"  {_line(step)}" for step in stage.steps)
        lines.append("")
    hits, misses, unknown = known_plan(stages)
    total = hits + misses + unknown
    text = f"{total} step{'' if total == 1 else 's'}: {hits} cached, {misses} to execute"
    if unknown:
        text += (
            f", {unknown} unknown: their keys are made of results that are yet to come, and they are cached "
            "if those turn out as before"
        )
    return "\n".join([*lines, text])


def _line(step: PlannedStep) -> str:
    key = step.key[:_KEY_CHARACTERS] or "-"
    text = f"{_WORDS[step.state]:<8} {key:<{_KEY_CHARACTERS}}  {step.name}"
    if step.state == "hit":
        return text + (f"  ({step.seconds:.1f}s saved)" if step.seconds >= 0.05 else "")
    return f"{text}  ({step.cause.reason})" if step.cause is not None else text
