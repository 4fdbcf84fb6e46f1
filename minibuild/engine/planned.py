"""From a parsed Dockerfile to its image: planned, solved, written."""

from __future__ import annotations

from collections.abc import Mapping

from minibuild.dockerfile.instruction import Dockerfile
from minibuild.engine.assemble import finished_config
from minibuild.engine.bases import ImageBases
from minibuild.engine.checks import Checks
from minibuild.engine.export import export_all
from minibuild.engine.inputs import Inputs
from minibuild.engine.lowering import lower_options
from minibuild.engine.repeat import repaired
from minibuild.engine.request import BuildResult
from minibuild.engine.session import Session
from minibuild.engine.solve import Solver, StageResult
from minibuild.engine.stagerows import stage_rows
from minibuild.plan.lower import lower
from minibuild.plan.steps import Plan


def image_of(session: Session, dockerfile: Dockerfile, inputs: Inputs) -> BuildResult:
    """Build `dockerfile` as the session's request says; raises a `MinibuildError`."""
    request = session.request
    bases = ImageBases(session)
    notes: list[str] = []
    plan = lower(dockerfile, lower_options(request, inputs), bases, notes=notes)
    session.epoch = plan.epoch
    for note in notes:
        session.notice("warning", note)
    for volume in request.volumes:
        where = f"{volume.source} of this machine at {volume.target}"
        session.notice("note", f"every RUN sees {where}; no cache key knows what is in it")

    def attempt() -> BuildResult:
        session.journal.begin(inputs.place, _shown(inputs.place), stage_rows(plan))
        return _finished(session, plan, Solver(session, plan, bases, inputs).run())

    with Checks(session, dockerfile, plan, bases, inputs).around():
        return repaired(session, attempt)


def _finished(session: Session, plan: Plan, stages: Mapping[int, StageResult]) -> BuildResult:
    """Configuration, outputs and names of what was solved."""
    config = finished_config(plan, stages, epoch=plan.epoch)
    filesystem = stages[plan.target.index].filesystem
    if session.request.save_stages:
        from minibuild.engine.savestages import save_stages

        save_stages(session, plan, stages)
    if session.request.squash:
        from minibuild.engine.squash import squashed

        config, filesystem = squashed(session, plan, config, filesystem)
    outputs = session.request.outputs
    if session.request.cache_to or "BUILDKIT_INLINE_CACHE" in session.request.build_args:
        from minibuild.engine.sharing import with_inline

        outputs = with_inline(session, plan, config.diff_ids, outputs)
    if not session.request.cache_to:  # which may read cache mounts
        session.sandboxes.rest()
    manifest, image_id, exports = export_all(session, config, filesystem, outputs)
    if session.request.cache_to:
        from minibuild.engine.sharing import export_caches

        export_caches(session, plan)
    if session.from_shared:
        from minibuild.engine.sharing import keep_checked

        keep_checked(session)
    return BuildResult(
        manifest=manifest,
        image_id=image_id,
        config=config,
        tags=session.request.tags,
        exports=exports,
        steps=tuple(session.reports),
        build=session.journal.id,
    )


def _shown(place: str) -> str:
    """What the build's record calls the Dockerfile."""
    folder, name, target = place.split("\n")
    shown = f"{folder}/{name}" if folder and not name.startswith("/") else name
    return f"{shown} ({target})" if target else shown
