"""The one place that wires the parts: a request in, an image out."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from minibuild_store.store import Store

from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.dockerfile.instruction import Dockerfile
from minibuild.dockerfile.parse import parse
from minibuild.engine.assemble import finished_config
from minibuild.engine.bases import ImageBases
from minibuild.engine.export import check_outputs, export_all
from minibuild.engine.repeat import repaired
from minibuild.engine.request import BuildRequest, BuildResult
from minibuild.engine.session import Session
from minibuild.engine.solve import Solver, StageResult, stage_rows
from minibuild.errors import Cancelled, MinibuildError, UsageError
from minibuild.events import BuildFinished, EventSink, silent
from minibuild.oci.platform import Platform
from minibuild.plan.lower import LowerOptions, lower
from minibuild.plan.steps import Plan


def build(
    request: BuildRequest,
    *,
    store: Store,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> BuildResult:
    """Build `request` on `store`; tells `sink` how it goes and stops soon after `cancel` is set.

    Raises a `MinibuildError`. Whatever was finished before an error is kept, and found again by the
    next build.
    """
    start = time.monotonic()
    with Session(store, request, sink, cancel) as session:
        name, text = read_dockerfile(request)
        try:
            result = _build(session, parse(text, name))
        except MinibuildError as error:
            session.journal.finish(
                "cancelled" if isinstance(error, Cancelled) else "failed", error=str(error)
            )
            if error.where is not None and error.where.file == name:
                error.source = text.decode("utf-8-sig", "replace")
            raise
        tags = [str(tag) for tag in result.tags]
        session.journal.finish("done", image=result.image_id, tags=tags)
        session.emit(
            BuildFinished(
                steps=len(result.steps),
                hits=sum(step.cached for step in result.steps),
                seconds=time.monotonic() - start,
                bytes=sum(step.bytes for step in result.steps if not step.cached),
                seconds_saved=session.seconds_saved,
            )
        )
        return result


def _build(session: Session, dockerfile: Dockerfile) -> BuildResult:
    request = session.request
    check_outputs(request.outputs)
    bases = ImageBases(session)
    host = Platform.of_host()
    options = LowerOptions(
        target=request.target,
        build_args=request.build_args,
        labels=request.labels,
        target_platform=request.platform or host,
        build_platform=host,
        explicit_platform=request.platform is not None,
        no_cache=request.no_cache,
        no_cache_stages=request.no_cache_stages,
        network=request.network,
        cache_namespace=request.build_args.get("BUILDKIT_CACHE_MOUNT_NS", ""),
        epoch=request.epoch,
    )
    plan = lower(dockerfile, options, bases)
    session.epoch = plan.epoch
    ignore = read_ignore_file(request)
    folder = request.context.resolve() if request.context is not None else ""
    place = f"{folder}\n{dockerfile.name}\n{request.target}"

    def attempt() -> BuildResult:
        session.journal.begin(place, _shown(place), stage_rows(plan))
        return _finished(session, plan, Solver(session, plan, bases, ignore).run())

    return repaired(session, attempt)


def _finished(session: Session, plan: Plan, stages: Mapping[int, StageResult]) -> BuildResult:
    """Configuration, outputs and names of what was solved."""
    config = finished_config(plan, stages, epoch=plan.epoch)
    filesystem = stages[plan.target.index].filesystem
    manifest, image_id, exports = export_all(session, config, filesystem)
    return BuildResult(
        manifest=manifest,
        image_id=image_id,
        config=config,
        tags=session.request.tags,
        exports=exports,
        steps=tuple(session.reports),
    )


def _shown(place: str) -> str:
    """What the build's record calls the Dockerfile."""
    folder, name, target = place.split("\n")
    shown = f"{folder}/{name}" if folder and not name.startswith("/") else name
    return f"{shown} ({target})" if target else shown


def read_dockerfile(request: BuildRequest) -> tuple[str, bytes]:
    """The Dockerfile's name for messages and its text; raises `UsageError` where there is none."""
    if request.dockerfile_text is not None:
        return "Dockerfile", request.dockerfile_text
    context = request.context
    if context is not None and not context.is_dir():
        what = "is a file" if context.exists() else "does not exist"
        raise UsageError(
            f"the build context {context} {what}",
            cure="Name the folder that holds the files to build from, as in: minibuild build .",
        )
    path = request.dockerfile
    if path is None:
        if context is None:
            raise UsageError("no Dockerfile was given", cure="Name one with -f, or a folder that holds one.")
        path = context / "Dockerfile"
    try:
        return _shown_name(path, context), path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no Dockerfile at {path}", cure=_other_dockerfile(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", cure="Name a readable file with -f."
        ) from None


def _shown_name(path: Path, context: Path | None) -> str:
    if context is not None:
        try:
            return str(path.relative_to(context))
        except ValueError:
            pass
    return str(path)


def _other_dockerfile(path: Path) -> str:
    try:
        others = sorted(
            name.name
            for name in path.parent.iterdir()
            if "dockerfile" in name.name.lower() or name.name.lower() == "containerfile"
        )
    except OSError:
        others = []
    if others:
        return f"There is {others[0]}: name it with -f."
    return "Write one there, or name another with -f."


def read_ignore_file(request: BuildRequest) -> IgnoreFile | None:
    """``<Dockerfile>.dockerignore`` beside the Dockerfile, else ``.dockerignore`` in the context."""
    if request.context is None:
        return None
    candidates = [request.context / ".dockerignore"]
    if request.dockerfile_text is None:
        path = request.dockerfile or request.context / "Dockerfile"
        candidates.insert(0, path.with_name(path.name + ".dockerignore"))
    for path in candidates:
        try:
            return IgnoreFile.parse(path.read_bytes(), path.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", cure="Change its mode.") from None
    return None
