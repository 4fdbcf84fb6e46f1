"""Sizes as go-units reads them: ``64``, ``1.5m``, ``2GiB``; every unit is binary."""

from __future__ import annotations

import re

from minibuild.errors import DockerfileError

_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """The bytes that `text` names. Raises DockerfileError."""
    match = re.fullmatch(r"(\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) ?([a-zA-Z]{0,3})", text)
    unit = match[2].lower() if match else ""
    power = 0 if unit in ("", "b") else _POWERS.get(unit[0])
    if match is None or power is None or unit[1:] not in ("", "b", "ib") or (power == 0 and len(unit) > 1):
        raise _invalid(text)
    value = float(match[1]) * 1024.0**power
    if not value < 1 << 63:
        raise _invalid(text)
    return int(value)


def _invalid(text: str) -> DockerfileError:
    return DockerfileError(f"invalid value for size: {text}", cure="Write a size such as 64m or 1g.")
