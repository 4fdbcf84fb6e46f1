"""The stages of a plan as a build's record names them."""

from __future__ import annotations

from minibuild.cache.journal import StageRow
from minibuild.plan.steps import (
    FromContext,
    FromImage,
    FromScratch,
    FromStage,
    Plan,
    StagePlan,
    Step,
    sources_of,
)


def stage_rows(plan: Plan) -> list[StageRow]:
    """The stages as the build's record names them."""
    return [
        StageRow(
            stage.name,
            base_text(plan, stage),
            tuple(step.instruction for step in stage.steps),
            tuple(
                dict.fromkeys(
                    plan.stage(source.index).name for step in stage.steps for source in stage_sources(step)
                )
            ),
            stage is plan.target,
            tuple(entry.partition("=")[0] for entry in stage.config.env),
        )
        for stage in plan.stages
    ]


def base_text(plan: Plan, stage: StagePlan) -> str:
    match stage.base:
        case FromStage(index):
            return f"stage {plan.stage(index).name}"
        case FromImage(image):
            name = image.name if "$" in stage.from_name else stage.from_name
            return f"image {name.partition('@')[0]}@{image.digest}"
        case FromContext(name):
            return f"context {name}"
        case FromScratch():
            return "scratch"


def stage_sources(step: Step) -> list[FromStage]:
    """The stages whose files the step reads."""
    return [source for source in sources_of(step) if isinstance(source, FromStage)]


def copied_stages(plan: Plan) -> frozenset[int]:
    """The indexes of the stages whose files others read, and of those that these are built on."""
    found: set[int] = set()
    for stage in reversed(plan.stages):
        found.update(source.index for step in stage.steps for source in stage_sources(step))
        if stage.index in found and isinstance(stage.base, FromStage):
            found.add(stage.base.index)
    return frozenset(found)
