"""What is said where a source of COPY or ADD is not there: why, and what was likely meant."""

from __future__ import annotations

import os

from minibuild.context.select import NothingThere
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.engine.sources import ContextFiles, Files
from minibuild.errors import DockerfileError


def not_found(error: NothingThere, files: Files) -> DockerfileError:
    """The error for a path that `files` lack, or that an ignore file leaves out."""
    if not isinstance(files, ContextFiles):
        return DockerfileError(
            f'"/{error.path}": not found', cure="The stage or image it is copied from lacks it."
        )
    if files.ignore is not None:
        ignored, line = files.ignore.decision(error.path)
        if ignored and line is not None and os.path.lexists(files.root / error.path):
            return DockerfileError(
                f'"/{error.path}": excluded by {files.ignore.name}',
                cure=f"Line {line.number} ({line.text}) leaves it out; add !{error.path} below that line.",
            )
    return DockerfileError(
        f'"/{error.path}": not found in the build context {files.root}', cure=_near_miss(files, error.path)
    )


def _near_miss(files: ContextFiles, path: str) -> str:
    parent, name = os.path.split(path)
    try:
        names = os.listdir(files.root / parent)
    except OSError:
        names = []
    hint = did_you_mean(name, names)
    return hint.strip() or "Paths are relative to the build context, not to the Dockerfile."
