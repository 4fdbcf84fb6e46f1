"""Build OCI images from Dockerfiles with no daemon, no root and no system packages.

    with minibuild.Store.open(Path("store")) as store:
        result = minibuild.build(minibuild.BuildRequest(context=Path(".")), store=store)

Public names are those of `__all__`; they are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.engine.build import build
    from minibuild.engine.request import BuildRequest, BuildResult, Secret, SshAgent, StepReport
    from minibuild.engine.runimage import RunRequest, run_image
    from minibuild.engine.transfer import load, pull, push, save
    from minibuild.errors import (
        Cancelled,
        DockerfileError,
        LayerError,
        MinibuildError,
        OutputError,
        RunFailed,
        SandboxError,
        UsageError,
    )
    from minibuild.events import Event, EventSink
    from minibuild.exporters.spec import OutputSpec, parse_output
    from minibuild.oci.platform import Platform
    from minibuild.oci.reference import Reference
    from minibuild.registry.options import RegistryOptions

_HOMES = {
    "BuildRequest": "minibuild.engine.request",
    "BuildResult": "minibuild.engine.request",
    "Cancelled": "minibuild.errors",
    "DockerfileError": "minibuild.errors",
    "Event": "minibuild.events",
    "EventSink": "minibuild.events",
    "LayerError": "minibuild.errors",
    "MinibuildError": "minibuild.errors",
    "OutputError": "minibuild.errors",
    "OutputSpec": "minibuild.exporters.spec",
    "Platform": "minibuild.oci.platform",
    "Reference": "minibuild.oci.reference",
    "RegistryOptions": "minibuild.registry.options",
    "RunFailed": "minibuild.errors",
    "RunRequest": "minibuild.engine.runimage",
    "SandboxError": "minibuild.errors",
    "Secret": "minibuild.engine.request",
    "SshAgent": "minibuild.engine.request",
    "StepReport": "minibuild.engine.request",
    "Store": "minibuild_store.store",
    "UsageError": "minibuild.errors",
    "build": "minibuild.engine.build",
    "load": "minibuild.engine.transfer",
    "parse_output": "minibuild.exporters.spec",
    "pull": "minibuild.engine.transfer",
    "push": "minibuild.engine.transfer",
    "run_image": "minibuild.engine.runimage",
    "save": "minibuild.engine.transfer",
}

__all__ = [
    "BuildRequest",
    "BuildResult",
    "Cancelled",
    "DockerfileError",
    "Event",
    "EventSink",
    "LayerError",
    "MinibuildError",
    "OutputError",
    "OutputSpec",
    "Platform",
    "Reference",
    "RegistryOptions",
    "RunFailed",
    "RunRequest",
    "SandboxError",
    "Secret",
    "SshAgent",
    "StepReport",
    "Store",
    "UsageError",
    "build",
    "load",
    "parse_output",
    "pull",
    "push",
    "run_image",
    "save",
]


def __getattr__(name: str) -> object:
    # Importing the package must not load the engine: most of a cached build's time would be imports.
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
