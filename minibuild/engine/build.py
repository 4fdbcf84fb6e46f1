"""The one place that wires the parts: a request in, an image out."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING

from minibuild_store.errors import store_error
from minibuild_store.store import Store

from minibuild.dockerfile.instruction import Dockerfile, Run
from minibuild.dockerfile.parse import parse
from minibuild.engine.inputs import Inputs, read_inputs
from minibuild.engine.request import BuildRequest, BuildResult
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, MinibuildError
from minibuild.events import BuildFinished, BuildStarted, EventSink, silent
from minibuild.exporters.assemble import check_without_index
from minibuild.exporters.target import check_outputs

if TYPE_CHECKING:
    from minibuild.engine.failure import OnFailure


def build(
    request: BuildRequest,
    *,
    store: Store,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
    on_failure: OnFailure | None = None,
) -> BuildResult:
    """Build `request` on `store`; tells `sink` how it goes and stops soon after `cancel` is set.

    `on_failure` gets the first step whose command fails, to look at it before it is cleared away.
    Raises a `MinibuildError`. Whatever was finished before an error is kept, and found again by the
    next build.
    """
    start = time.monotonic()
    with Session(store, request, sink, cancel, on_failure) as session:
        session.emit(BuildStarted(session.journal.id))
        inputs = read_inputs(session)
        try:
            result = _build(session, inputs)
        except MinibuildError as error:
            failed = (error, *error.others)
            session.journal.finish(
                "cancelled" if isinstance(error, Cancelled) else "failed", error="; ".join(map(str, failed))
            )
            for one in failed:
                if one.where is not None and one.where.file == inputs.name:
                    one.source = inputs.text.decode("utf-8-sig", "replace")
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise store_error(error, str(store.root)) from error
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


def _build(session: Session, inputs: Inputs) -> BuildResult:
    request = session.request
    check_outputs(request.outputs)
    check_without_index(request.annotations)  # after all steps would be late
    for spec in request.outputs:
        if spec.kind in ("image", "oci", "docker"):
            check_without_index(spec.annotations)
    if request.save_stages:
        from minibuild.engine.savestages import check_names

        check_names(request.tags)
    if request.squash:
        from minibuild.engine.squash import check_mode

        check_mode(request.squash)
    if request.cache_from:
        from minibuild.engine.sharing import use_shared

        use_shared(session)
    dockerfile = parse(inputs.text, inputs.name)
    if _will_run(session, dockerfile):
        session.sandboxes.start_ahead()
    from minibuild.engine.planned import image_of  # most of the engine: the sandbox starts beside it

    return image_of(session, dockerfile, inputs)


def _will_run(session: Session, dockerfile: Dockerfile) -> bool:
    """Whether a RUN is bound to miss: nothing was ever built here, or nothing is to be found."""
    if session.shared is not None or not (session.request.no_cache or session.cache.fresh):
        return False
    return any(isinstance(one, Run) for stage in dockerfile.stages for one in stage.instructions)
