"""Build OCI images from Dockerfiles with no daemon, no root and no system packages.

    with minibuild.Builder(Path("store")) as builder:
        result = builder.build(minibuild.BuildRequest.of(".", tags=["app"]))

Public are the names of `__all__`, here, in `minibuild.plugins` and in `minibuild_store`, and the classes of
`minibuild.testing`. They are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minibuild_store.digest import Digest
    from minibuild_store.errors import StoreError
    from minibuild_store.store import Store

    from minibuild.cache.builds import BuildRecord, Builds
    from minibuild.cache.journal import Cause, StageRow, StepRow
    from minibuild.cache.spec import CacheSpec, parse_cache
    from minibuild.engine.build import build
    from minibuild.engine.builder import Builder
    from minibuild.engine.compose import ComposeRequest, ComposeResult, diff_layers, merge
    from minibuild.engine.failure import FailedStep
    from minibuild.engine.load import load
    from minibuild.engine.request import (
        AllowedDevice,
        BuildRequest,
        BuildResult,
        HostVolume,
        Secret,
        SshAgent,
        StepReport,
        default_root,
    )
    from minibuild.engine.runimage import RunRequest, Signals, run_image
    from minibuild.engine.transfer import pull, push, save
    from minibuild.errors import (
        Cancelled,
        DockerfileError,
        LayerError,
        MinibuildError,
        OutputError,
        RunFailed,
        SandboxError,
        SourceRange,
        UsageError,
    )
    from minibuild.events import (
        BuildFinished,
        BuildStarted,
        CheckWarning,
        CheckWarnings,
        Event,
        EventSink,
        Notice,
        StepFailed,
        StepFinished,
        StepMissed,
        StepOutput,
        StepProgress,
        StepStarted,
    )
    from minibuild.exporters.annotations import Annotation, Level
    from minibuild.exporters.image import ExportResult
    from minibuild.exporters.spec import OutputSpec, parse_output
    from minibuild.layers.compress import Compression
    from minibuild.oci.config import ImageConfig
    from minibuild.oci.platform import Platform
    from minibuild.oci.reference import Reference
    from minibuild.plan.options import Unset
    from minibuild.registry.errors import RegistryError
    from minibuild.registry.options import HostOptions, Mirror, Proxies, RegistryOptions
    from minibuild.sandbox.limits import Dns, Limits
    from minibuild.sandbox.spec import ExitStatus

_HOMES = {
    "AllowedDevice": "minibuild.engine.request",
    "Annotation": "minibuild.exporters.annotations",
    "BuildFinished": "minibuild.events",
    "BuildRecord": "minibuild.cache.builds",
    "BuildRequest": "minibuild.engine.request",
    "BuildResult": "minibuild.engine.request",
    "BuildStarted": "minibuild.events",
    "Builder": "minibuild.engine.builder",
    "Builds": "minibuild.cache.builds",
    "CacheSpec": "minibuild.cache.spec",
    "Cancelled": "minibuild.errors",
    "Cause": "minibuild.cache.journal",
    "CheckWarning": "minibuild.events",
    "CheckWarnings": "minibuild.events",
    "ComposeRequest": "minibuild.engine.compose",
    "ComposeResult": "minibuild.engine.compose",
    "Compression": "minibuild.layers.compress",
    "Digest": "minibuild_store.digest",
    "Dns": "minibuild.sandbox.limits",
    "DockerfileError": "minibuild.errors",
    "Event": "minibuild.events",
    "EventSink": "minibuild.events",
    "ExitStatus": "minibuild.sandbox.spec",
    "ExportResult": "minibuild.exporters.image",
    "FailedStep": "minibuild.engine.failure",
    "HostOptions": "minibuild.registry.options",
    "HostVolume": "minibuild.engine.request",
    "ImageConfig": "minibuild.oci.config",
    "LayerError": "minibuild.errors",
    "Level": "minibuild.exporters.annotations",
    "Limits": "minibuild.sandbox.limits",
    "MinibuildError": "minibuild.errors",
    "Mirror": "minibuild.registry.options",
    "Notice": "minibuild.events",
    "OutputError": "minibuild.errors",
    "OutputSpec": "minibuild.exporters.spec",
    "Platform": "minibuild.oci.platform",
    "Proxies": "minibuild.registry.options",
    "Reference": "minibuild.oci.reference",
    "RegistryError": "minibuild.registry.errors",
    "RegistryOptions": "minibuild.registry.options",
    "RunFailed": "minibuild.errors",
    "RunRequest": "minibuild.engine.runimage",
    "SandboxError": "minibuild.errors",
    "Secret": "minibuild.engine.request",
    "Signals": "minibuild.engine.runimage",
    "SourceRange": "minibuild.errors",
    "SshAgent": "minibuild.engine.request",
    "StageRow": "minibuild.cache.journal",
    "StepFailed": "minibuild.events",
    "StepFinished": "minibuild.events",
    "StepMissed": "minibuild.events",
    "StepOutput": "minibuild.events",
    "StepProgress": "minibuild.events",
    "StepReport": "minibuild.engine.request",
    "StepRow": "minibuild.cache.journal",
    "StepStarted": "minibuild.events",
    "Store": "minibuild_store.store",
    "StoreError": "minibuild_store.errors",
    "Unset": "minibuild.plan.options",
    "UsageError": "minibuild.errors",
    "build": "minibuild.engine.build",
    "default_root": "minibuild.engine.request",
    "diff_layers": "minibuild.engine.compose",
    "load": "minibuild.engine.load",
    "merge": "minibuild.engine.compose",
    "parse_cache": "minibuild.cache.spec",
    "parse_output": "minibuild.exporters.spec",
    "pull": "minibuild.engine.transfer",
    "push": "minibuild.engine.transfer",
    "run_image": "minibuild.engine.runimage",
    "save": "minibuild.engine.transfer",
}

__all__ = [
    "AllowedDevice",
    "Annotation",
    "BuildFinished",
    "BuildRecord",
    "BuildRequest",
    "BuildResult",
    "BuildStarted",
    "Builder",
    "Builds",
    "CacheSpec",
    "Cancelled",
    "Cause",
    "CheckWarning",
    "CheckWarnings",
    "ComposeRequest",
    "ComposeResult",
    "Compression",
    "Digest",
    "Dns",
    "DockerfileError",
    "Event",
    "EventSink",
    "ExitStatus",
    "ExportResult",
    "FailedStep",
    "HostOptions",
    "HostVolume",
    "ImageConfig",
    "LayerError",
    "Level",
    "Limits",
    "MinibuildError",
    "Mirror",
    "Notice",
    "OutputError",
    "OutputSpec",
    "Platform",
    "Proxies",
    "Reference",
    "RegistryError",
    "RegistryOptions",
    "RunFailed",
    "RunRequest",
    "SandboxError",
    "Secret",
    "Signals",
    "SourceRange",
    "SshAgent",
    "StageRow",
    "StepFailed",
    "StepFinished",
    "StepMissed",
    "StepOutput",
    "StepProgress",
    "StepReport",
    "StepRow",
    "StepStarted",
    "Store",
    "StoreError",
    "Unset",
    "UsageError",
    "build",
    "default_root",
    "diff_layers",
    "load",
    "merge",
    "parse_cache",
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
