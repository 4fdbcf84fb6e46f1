"""``--save-stages``: the stages before the target as images of their own, called like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minibuild.engine.assemble import finished_config
from minibuild.engine.export import keep
from minibuild.engine.session import Session
from minibuild.engine.solve import StageResult
from minibuild.errors import UsageError
from minibuild.oci.reference import Reference
from minibuild.plan.steps import Plan, StagePlan
from minibuild.values import replace

_LONGEST = 128  # of a tag, by the distribution specification


def check_names(tags: Sequence[Reference]) -> None:
    """Raises `UsageError` where there is nothing to name stages after."""
    if not tags:
        raise UsageError("--save-stages without a name", cure="Name the image with -t NAME:TAG.")


def save_stages(session: Session, plan: Plan, results: Mapping[int, StageResult]) -> None:
    """Keep each stage that was built for the target as NAME:TAG-STAGE, for each name of the image."""
    for stage in plan.stages[:-1]:
        stages = (*(one for one in plan.stages if one is not stage), stage)
        config = finished_config(replace(plan, stages=stages), results, epoch=plan.epoch)
        names = [_name(tag, stage) for tag in session.request.tags]
        keep(session, config, results[stage.index].filesystem, names)
        session.notice("note", f"stage {stage.name} is {', '.join(name.familiar for name in names)}")


def _name(tag: Reference, stage: StagePlan) -> Reference:
    text = f"{tag.tag or 'latest'}-{stage.name}"
    if len(text) > _LONGEST:
        raise UsageError(
            f"the tag {text} is longer than {_LONGEST} characters",
            cure="Shorten the tag or the stage's name.",
        )
    return replace(tag, tag=text, digest=None)
