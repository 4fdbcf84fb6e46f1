"""Stages by name and by number, and the rules for their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minibuild.dockerfile.gotext import number, quote
from minibuild.dockerfile.instruction import Stage
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.errors import DockerfileError, SourceRange, UsageError

# Names with a meaning of their own; a stage may still be called so, with a warning.
RESERVED_NAMES = frozenset({"context", "scratch"})


def check_stage_name(name: str) -> None:
    """Refuses what cannot stand behind AS. Raises DockerfileError."""
    if not re.fullmatch(r"[a-z][a-z0-9-_.]*", name.lower()):
        raise DockerfileError(
            f"invalid name for build stage: {quote(name)}, name can't start with a number or contain symbols",
            cure="Use letters, digits, '-', '_' and '.', a letter first.",
        )


def find_stage(stages: Sequence[Stage], name: str, *, by_index: bool = True) -> int | None:
    """The index of the stage called `name`, in any letter case; of several, the last.

    With `by_index` a number is the stage it counts to, from 0, and never a name; out of range it is None
    like any name that no stage has.
    """
    place = number(name, most=1 << 62, signed=True) if by_index else None
    if place is not None:
        return place if 0 <= place < len(stages) else None
    wanted = name.lower()
    for stage in reversed(stages):
        if wanted and stage.origin.name == wanted:  # not by the property: a long chain asks a million times
            return stage.index
    return None


def unknown_stage(stages: Sequence[Stage], name: str, *, what: str = "stage") -> UsageError:
    """The error for a `name` that `find_stage` does not find, with the near miss and the names there are."""
    names = [stage.name for stage in stages if stage.name]
    listed = ", ".join(names) or f"0 to {len(stages) - 1}"
    alone = len(stages) == 1 and not names
    return UsageError(
        f"{what} {quote(name)} could not be found{did_you_mean(name.lower(), names)}",
        cure="Leave it out: there is one stage, and it has no name."
        if alone
        else f"The stages are {listed}.",
    )


def check_earlier(name: str, index: int, own: int, where: SourceRange) -> None:
    """Refuses a copy of stage `own` from stage `index`, called `name`, unless that stands above it.

    Raises DockerfileError.
    """
    if index == own:
        raise DockerfileError(
            f"circular dependency detected on stage: {name}",
            where=where,
            cure="A stage cannot copy from itself.",
        )
    if index > own:
        raise DockerfileError(
            f'cannot copy from stage "{name}", it needs to be defined before current stage',
            where=where,
            cure="Move that stage above this one.",
        )
