"""From a request to the options of the lowering."""

from __future__ import annotations

from minibuild.engine.inputs import Inputs
from minibuild.engine.request import BuildRequest
from minibuild.errors import UsageError
from minibuild.oci.platform import Platform
from minibuild.plan.options import LowerOptions


def lower_options(request: BuildRequest, inputs: Inputs, *, all_stages: bool = False) -> LowerOptions:
    """Raises `UsageError` where a BUILDKIT_ argument asks for what is not there."""
    several = request.build_args.get("BUILDKIT_MULTI_PLATFORM", "")
    if several.lower() not in ("", "0", "f", "false"):
        raise UsageError(
            f"BUILDKIT_MULTI_PLATFORM={several}: an image is made for one platform and gets no index",
            cure="Leave the argument out.",
        )
    host = Platform.of_host()
    return LowerOptions(
        target=request.target,
        all_stages=all_stages,
        build_args=request.build_args,
        labels=request.labels,
        target_platform=request.platform or host,
        build_platform=host,
        explicit_platform=request.platform is not None,
        no_cache=request.no_cache,
        no_cache_stages=request.no_cache_stages,
        no_cache_steps=request.no_cache_steps,
        unset=request.unset,
        hostname=request.hostname,
        network=request.network,
        cache_namespace=request.build_args.get("BUILDKIT_CACHE_MOUNT_NS", ""),
        epoch=request.epoch,
        context_time=inputs.modified,
    )
