"""How much comes after a step: of those that wait for their turn, the one with the most goes first."""

from __future__ import annotations

from collections.abc import Mapping

from minibuild.engine.stagerows import stage_sources
from minibuild.plan.steps import FromStage, Plan


def steps_after(plan: Plan) -> Mapping[int, int]:
    """By stage, how many steps of later stages come one after the other once its last step is done."""
    after = {stage.index: 0 for stage in plan.stages}
    for stage in reversed(plan.stages):  # each comes behind those it needs
        count = len(stage.steps)
        if isinstance(stage.base, FromStage):
            after[stage.base.index] = max(after[stage.base.index], count + after[stage.index])
        for number, step in enumerate(stage.steps):
            for source in stage_sources(step):
                left = count - number + after[stage.index]
                after[source.index] = max(after[source.index], left)
    return after
