"""Stages by name and by number, and the rules for their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minibuild.dockerfile.gotext import number, quote
from minibuild.dockerfile.instruction import Stage
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.errors import DockerfileError, UsageError

# Names with a meaning of their own; a stage may still be called so, with a warning.
RESERVED_NAMES = frozenset({"context", "scratch"})


def check_stage_name(name: str) -> None:
    """Refuses what cannot stand behind AS. Raises DockerfileError."""
    if not re.fullmatch(r"[a-z][a-z0-9-_.]*", name.lower()):
        raise DockerfileError(
            f"invalid name for build stage: {quote(name)}, name can't start with a number or contain symbols",
            cure="Use letters, digits, '-', '_' and '.', a letter first.",
        )


def stage_named(stages: Sequence[Stage], name: str) -> Stage | None:
    """The stage called `name`, in any letter case; of several the last one."""
    wanted = name.lower()
    return next((stage for stage in reversed(stages) if wanted and stage.name == wanted), None)


def base_stage(stages: Sequence[Stage], base: str, index: int) -> Stage | None:
    """The stage that ``FROM base`` in stage `index` means, or None where it means an image.

    Only earlier stages count, and unlike elsewhere the letter case does: ``FROM Base`` is an image.
    """
    return next((stage for stage in reversed(stages[:index]) if base and stage.name == base), None)


def source_stage(stages: Sequence[Stage], source: str, index: int | None = None) -> Stage | None:
    """The stage that ``COPY --from=source`` means, by number or name, or None where it means an image.

    `index` is the stage that copies. Raises DockerfileError for a number that no stage has, and for a stage
    that does not come before `index`.
    """
    place = number(source, most=1 << 62, signed=True)
    if place is None:
        found = stage_named(stages, source)
    elif 0 <= place < len(stages):
        found = stages[place]
    else:
        raise DockerfileError(
            f"invalid stage index {place}", cure=f"There are {len(stages)} stages, counted from 0."
        )
    if found is not None and index is not None and found.index >= index:
        raise DockerfileError(
            f"cannot copy from stage {quote(source)}, it needs to be defined before current stage",
            cure="Move that stage up.",
        )
    return found


def target_stage(stages: Sequence[Stage], target: str = "") -> Stage:
    """The stage to build: by name, by number, or the last one. Raises UsageError for one not there."""
    if not target:
        return stages[-1]
    found = stage_named(stages, target)
    place = number(target, most=len(stages) - 1)
    if found is None and place is not None:
        found = stages[place]
    if found is None:
        names = [stage.name for stage in stages if stage.name]
        listed = ", ".join(names) or f"0 to {len(stages) - 1}"
        raise UsageError(
            f"target stage {quote(target)} could not be found{did_you_mean(target.lower(), names)}",
            cure=f"The stages are {listed}.",
        )
    return found
