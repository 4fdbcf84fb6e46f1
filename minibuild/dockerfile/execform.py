"""The exec form: a JSON array of strings. Anything that is no JSON array is shell form instead."""

from __future__ import annotations

import json
import re

from minibuild.dockerfile.gotext import SPACE
from minibuild.errors import DockerfileError


def parse_array(text: str) -> tuple[str, ...] | None:
    """The strings of the JSON array `text`, or None where it is none: then it is shell form.

    Raises DockerfileError for an array that holds anything but strings.
    """
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        array = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except RecursionError:
        array = [None]
    except ValueError:
        return None
    if not all(isinstance(one, str) for one in array):
        raise DockerfileError(
            "when using JSON array syntax, arrays must be comprised of strings only",
            cure="Put each element in double quotes.",
        )
    return tuple(map(_sound, array))


def _number(digits: str) -> float:
    """Go reads a number too large for a float as a fault, and knows no NaN or Infinity."""
    value = float(digits) if digits[-1].isdigit() else float("inf")
    if value in (float("inf"), float("-inf")):
        raise ValueError(digits)
    return value


def _sound(text: str) -> str:
    """Half a surrogate pair (``\\ud800``) cannot be encoded; Go puts U+FFFD in its place."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)
