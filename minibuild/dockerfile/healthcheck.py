"""The options and the test of HEALTHCHECK."""

from __future__ import annotations

from typing import TypedDict

from minibuild.dockerfile.duration import MILLISECOND, parse_duration
from minibuild.dockerfile.flags import Flags, Kind
from minibuild.dockerfile.gotext import number, quote
from minibuild.errors import DockerfileError

HEALTH_FLAGS = {
    "interval": Kind.TEXT, "timeout": Kind.TEXT, "start-period": Kind.TEXT,
    "start-interval": Kind.TEXT, "retries": Kind.TEXT,
}  # fmt: skip


class HealthFields(TypedDict):
    """The fields of `minibuild.dockerfile.instruction.Healthcheck`; durations in nanoseconds."""

    test: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


def build_healthcheck(kind: str, rest: str, array: tuple[str, ...] | None, flags: Flags) -> HealthFields:
    """`kind` is the first word in upper case, `rest` what follows, `array` that as exec form if it is one.

    Raises DockerfileError.
    """
    return {
        "test": _test(kind, rest, array),
        "interval": _interval(flags, "interval"),
        "timeout": _interval(flags, "timeout"),
        "start_period": _interval(flags, "start-period"),
        "start_interval": _interval(flags, "start-interval"),
        "retries": _retries(flags),
    }


def _test(kind: str, rest: str, array: tuple[str, ...] | None) -> tuple[str, ...]:
    if kind == "NONE":
        # An empty array is no argument either.
        if array or (array is None and rest):
            raise DockerfileError("HEALTHCHECK NONE takes no arguments", cure="Write HEALTHCHECK NONE alone.")
        return ("NONE",)
    if kind != "CMD":
        raise DockerfileError(
            f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)",
            cure="Write HEALTHCHECK [OPTIONS] CMD command, or HEALTHCHECK NONE.",
        )
    if array is None and rest:
        return ("CMD-SHELL", rest)
    if not array:
        raise DockerfileError(
            "Missing command after HEALTHCHECK CMD", cure="Name the command that checks the container."
        )
    return ("CMD", *array)


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    value = parse_duration(text)
    if value != 0 and value < MILLISECOND:
        raise DockerfileError(
            f"Interval {quote(name)} cannot be less than 1ms", cure=f"Write --{name}=1ms or more, or 0s."
        )
    return value


def _retries(flags: Flags) -> int:
    text = flags.text("retries")
    if not text:
        return 0
    value = number(text, most=(1 << 31) - 1, signed=True)
    if value is None:
        raise DockerfileError(f"invalid number {quote(text)} for --retries", cure="Write a whole number.")
    if value < 0:
        raise DockerfileError(f"--retries cannot be negative ({value})", cure="Write 0 or more.")
    return value
