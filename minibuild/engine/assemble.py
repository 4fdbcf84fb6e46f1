"""The finished image configuration: the target's own, with history, diff IDs and times."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from minibuild.engine.solve import StageResult
from minibuild.oci.config import History, ImageConfig
from minibuild.plan.steps import FromContext, FromImage, FromStage, Plan, StagePlan
from minibuild.values import replace


def finished_config(plan: Plan, results: Mapping[int, StageResult], *, epoch: int | None) -> ImageConfig:
    """The target's configuration. A layer is dated with the moment it was first made, so that a fully
    cached build gives the same image; other lines of history take the time of the layer before them.
    """
    lines = _filled(_history(plan, plan.target, results, epoch))
    text = rfc3339(epoch) if epoch is not None else _last_time(lines)
    filesystem = results[plan.target.index].filesystem
    return replace(
        plan.target.config,
        created=text,
        history=tuple(lines),
        diff_ids=tuple(layer.diff_id for layer in filesystem.layers),
    )


def _history(
    plan: Plan, stage: StagePlan, results: Mapping[int, StageResult], epoch: int | None
) -> list[History]:
    chain = [stage]  # from the stage down to what is no stage's
    while isinstance(base := chain[-1].base, FromStage):
        chain.append(plan.stage(base.index))
    lines: list[History] = []
    match base:
        case FromImage(image):
            lines = list(image.config.history)
        case FromContext(name):
            text = f"local source for {name or 'context'}"
            lines = [History(created_by=text, comment="buildkit.exporter.image.v0")]
    for one in reversed(chain):
        times = results[one.index].created
        for item in one.history:
            created = ""
            if epoch is not None:
                created = rfc3339(epoch)
            elif item.step is not None:
                created = rfc3339(times[item.step])
            lines.append(replace(item.line, created=created))
    return lines


def _filled(lines: Sequence[History]) -> list[History]:
    """Give lines without a time the one of the layer before them, or of the first new layer."""
    current, missing = "", False
    for line in lines:
        if line.created:
            current = line.created
            if missing:
                break
        else:
            missing = True
    filled = []
    missing = False
    for line in lines:
        if not line.created:
            missing = True
            filled.append(replace(line, created=current))
            continue
        if missing:
            current = line.created
        filled.append(line)
    return filled


def _last_time(lines: Sequence[History]) -> str:
    return next((line.created for line in reversed(lines) if line.created), "")


def rfc3339(seconds: float) -> str:
    """`seconds` since the epoch as RFC 3339 in UTC, without a fraction where there is none."""
    whole = int(seconds)
    micros = round((seconds - whole) * 1_000_000)  # datetime rounds so, too, and takes a millisecond to load
    carry, micros = divmod(micros, 1_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole + carry))
    if micros:
        text += f".{micros:06d}".rstrip("0")
    return text + "Z"
