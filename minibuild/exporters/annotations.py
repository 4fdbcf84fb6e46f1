"""Annotations that an output asks for: ``annotation[-LEVEL][[PLATFORM]].KEY=VALUE``, as BuildKit's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from minibuild.errors import UsageError
from minibuild.oci.platform import Platform
from minibuild.values import NamedTuple

_KEY = r"annotation(?:-([a-zA-Z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)\Z"


class Level(StrEnum):
    """Where an annotation is written: in a document, or on the descriptor that points to it."""

    MANIFEST = "manifest"
    MANIFEST_DESCRIPTOR = "manifest-descriptor"
    INDEX = "index"
    INDEX_DESCRIPTOR = "index-descriptor"


class Annotation(NamedTuple):
    """One key and value; `platform` limits it to the manifest of that platform."""

    level: Level
    key: str
    value: str
    platform: Platform | None = None


def parse_annotation(name: str, value: str) -> Annotation | None:
    """The annotation that option `name` asks for; None if it is another option. Raises `UsageError`."""
    match = re.match(_KEY, name, re.IGNORECASE)
    if match is None:
        return None
    level_text, platform_text, key = match.groups()
    try:
        level = Level((level_text or "manifest").lower())
    except ValueError:
        raise UsageError(
            f"output option {name!r}: there is no annotation level {level_text!r}",
            cure=f"The levels are {', '.join(Level)}.",
        ) from None
    if platform_text and level in (Level.INDEX, Level.INDEX_DESCRIPTOR):
        raise UsageError(
            f"output option {name!r}: an index has no platform of its own",
            cure=f"Leave [{platform_text}] out, or annotate the manifest.",
        )
    try:
        platform = Platform.parse(platform_text) if platform_text else None
    except ValueError as error:
        raise UsageError(f"output option {name!r}: {error}") from None
    return Annotation(level, key, value, platform)


def select(
    annotations: Sequence[Annotation], level: Level, platform: Platform | None = None
) -> dict[str, str]:
    """Keys and values for one place, sorted; those of a platform win over those of all."""
    chosen = [one for one in annotations if one.level is level and one.platform in (None, platform)]
    chosen.sort(key=lambda one: one.platform is not None)
    return dict(sorted({one.key: one.value for one in chosen}.items()))
