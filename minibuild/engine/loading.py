"""Steps of our own that bring files in as a layer: a context for FROM, what a mount shows or begins with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minibuild.errors import SourceRange, UsageError
from minibuild.plan.steps import BindMount, CacheMount, CopyStep, FromContext, PathItem

if TYPE_CHECKING:
    from minibuild.layers.index import LayerIndex


def whole_context(name: str, where: SourceRange) -> CopyStep:
    """All of a build context, for ``FROM context``."""
    return CopyStep(
        name=f"[internal] load context {name or 'files'}",
        instruction="COPY . /",
        where=where,
        source=FromContext(name),
        items=(PathItem("/"),),
        dest="/",
        link=True,
    )


def mounted_part(mount: BindMount, where: SourceRange) -> CopyStep:
    """The part of a context that a bind mount shows, at its own path."""
    pattern = mount.subpath.strip("/")
    return CopyStep(
        name="[internal] load files to mount",
        instruction="COPY",
        where=where,
        source=mount.source,
        items=(PathItem(pattern or "/"),),
        dest=f"/{pattern}",
        link=True,
    )


def cache_seed(mount: CacheMount, where: SourceRange) -> CopyStep:
    """What a cache mount begins with."""
    folder, _, name = mount.subpath.rpartition("/")
    return CopyStep(
        name="[internal] load files for cache",
        instruction="COPY",
        where=where,
        source=mount.source,
        items=(PathItem(f"{folder}/./{name}" if name else "/"),),
        dest="/",
        link=True,
        parents=bool(name),
    )


def check_names(index: LayerIndex) -> None:
    """Raise `UsageError` for a file that would not be there once its layer is unpacked."""
    for path in index.paths:
        if b".wh." in path and path.rpartition(b"/")[2].startswith(b".wh."):
            raise UsageError(
                f"{os.fsdecode(path)} cannot be mounted or built upon: in a layer that name is a deletion",
                cure="Rename it, or leave it out in .dockerignore.",
            )
