"""What can be asked of a Dockerfile without building it: its faults, its outline, its targets."""

from __future__ import annotations

from minibuild_store.store import Store

from minibuild.dockerfile.instruction import Dockerfile
from minibuild.dockerfile.lint import lint_partly
from minibuild.dockerfile.lintrules import Finding
from minibuild.dockerfile.outline import Outline, outline
from minibuild.dockerfile.parse import parse, parse_partly
from minibuild.engine.bases import ImageBases
from minibuild.engine.checks import findings, read_options
from minibuild.engine.inputs import Inputs, read_inputs
from minibuild.engine.lowering import lower_options
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, DockerfileError, MinibuildError
from minibuild.events import EventSink, silent
from minibuild.oci.platform import Platform
from minibuild.plan.lower import lower
from minibuild.plan.scope import platform_args
from minibuild.plan.steps import Source
from minibuild.values import NamedTuple


class Checked(NamedTuple):
    """The findings in the Dockerfile called `name` with the text `source`, and what would stop the build."""

    name: str
    source: str
    findings: list[Finding]
    error: MinibuildError | None


def check(request: BuildRequest, *, store: Store, sink: EventSink = silent) -> Checked:
    """Check the target of `request`, or without one all stages, as ``frontend.lint`` does.

    The documents of base images are asked for, nothing is executed. Raises a `MinibuildError` for faults
    of the request itself.
    """
    with Session(store, request, sink) as session:
        inputs = read_inputs(session)
        name, source = inputs.name, inputs.text.decode("utf-8-sig", "replace")
        try:
            dockerfile, broken = parse_partly(inputs.text, name)
            if broken is not None:
                options = read_options(dockerfile, request.build_args)
                return Checked(name, source, lint_partly(dockerfile, options), broken)
        except DockerfileError as error:
            return Checked(name, source, [], error)
        bases = ImageBases(session)
        origins: dict[int, Source] = {}
        fault: MinibuildError | None = None
        try:
            lower(
                dockerfile,
                lower_options(request, inputs, all_stages=not request.target),
                bases,
                origins=origins,
            )
        except Cancelled:
            raise
        except MinibuildError as error:
            fault = error
            origins = _before(dockerfile, origins, error)
        try:
            until = fault.where if fault is not None else None
            found = findings(session, dockerfile, origins, bases, inputs.ignore, until)
        except DockerfileError as error:
            return Checked(name, source, [], error)
        return Checked(name, source, found, fault)


def _before(dockerfile: Dockerfile, origins: dict[int, Source], error: MinibuildError) -> dict[int, Source]:
    """The stages that are looked into although `error` ends it: none where a base is at fault."""
    at_base = any(stage.origin.where == error.where for stage in dockerfile.stages)
    if at_base or not isinstance(error, DockerfileError):  # an image that is not to be had
        return {}
    return origins


def outline_of(request: BuildRequest, *, store: Store, sink: EventSink = silent) -> tuple[Outline, str]:
    """The outline of the request's target, and the Dockerfile's text."""
    dockerfile = dockerfile_of(request, store=store, sink=sink)
    host = Platform.of_host()
    predefined = platform_args(host, request.platform or host, request.target, request.build_args)
    return outline(dockerfile, request.target, request.build_args, predefined), dockerfile.text


def dockerfile_of(request: BuildRequest, *, store: Store, sink: EventSink = silent) -> Dockerfile:
    """The request's Dockerfile; an error in it knows its text."""
    with Session(store, request, sink) as session:
        return _parsed(read_inputs(session))


def _parsed(inputs: Inputs) -> Dockerfile:
    try:
        return parse(inputs.text, inputs.name)
    except DockerfileError as error:
        error.source = inputs.text.decode("utf-8-sig", "replace")
        raise
