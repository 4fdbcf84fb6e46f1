"""Caching of single steps: ``# minibuild:`` comments above an instruction, and ``--no-cache-*``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minibuild.dockerfile.instruction import Instruction, Stage
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.errors import DockerfileError, UsageError
from minibuild.plan.steps import Step
from minibuild.values import replace

_COMMENT = re.compile(r"\s*minibuild:\s*(.*?)\s*\Z", re.IGNORECASE)
_AGE = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhdw])+\Z")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = ("no-cache", "ttl")


class NoCacheSteps:
    """The steps that ``--no-cache-step`` names: ``N`` or ``STAGE:N`` as progress counts, or words in them."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = tuple(wanted)
        self._found: set[str] = set()

    def names(self, instruction: str, stage: str, number: int, *, target: bool) -> bool:
        """Whether step `number` of `stage` is among them; a bare number counts in the `target`."""
        found = [text for text in self._wanted if _fits(text, instruction, stage, number, target)]
        self._found.update(found)
        return bool(found)

    def check(self) -> None:
        """Raises `UsageError` for what named no step."""
        for text in self._wanted:
            if text not in self._found:
                raise UsageError(
                    f"--no-cache-step {text}: no step of this build is called that",
                    cure="Give the number that progress shows, STAGE:NUMBER, or words of the instruction.",
                )


def _fits(text: str, instruction: str, stage: str, number: int, target: bool) -> bool:
    name, colon, digits = text.rpartition(":")
    if digits.isascii() and digits.isdigit() and (not colon or name.lower() == stage.lower()):
        return int(digits) == number and (target if not colon else True)
    return text.lower() in instruction.lower()


def with_comments(step: Step | None, node: Instruction) -> Step | None:
    """`step` with what the comments above its instruction say. Raises `DockerfileError`."""
    for comment in node.comments:
        match = _COMMENT.match(comment)
        for word in match[1].split() if match is not None else ():
            key, equals, value = word.partition("=")
            if step is None:
                raise _no_step(node)
            if key == "no-cache" and not equals:
                step = replace(step, cacheable=False)
            elif key == "ttl" and _AGE.match(value):
                step = replace(step, ttl=seconds(value))
            else:
                raise _unknown(word, key, node)
    return step


def seconds(age: str) -> float:
    """``1h30m`` in seconds; days and weeks are d and w."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(age))


def _no_step(node: Instruction) -> DockerfileError:
    """The error for a comment above an instruction that executes nothing."""
    word = node.code.split()[0].upper()
    return DockerfileError(
        f"# minibuild: above {word}, which executes nothing",
        where=node.where,
        cure="Put it above the RUN, COPY, ADD or WORKDIR that it is meant for.",
    )


def _unknown(word: str, key: str, node: Instruction) -> DockerfileError:
    return DockerfileError(
        f"# minibuild: {word} is not known{did_you_mean(key, _WORDS)}",
        where=node.where,
        cure="Write no-cache, or ttl= with an age such as 30m, 24h or 7d.",
    )


def unknown_stages(wanted: Sequence[str], stages: Sequence[Stage]) -> list[str]:
    """Notes on what ``--no-cache-filter`` names in vain: as BuildKit, go on; unlike it, say so."""
    names = [stage.name for stage in stages if stage.name]
    return [
        f"--no-cache-filter {name}: there is no such stage{did_you_mean(name, names)}"
        for name in wanted
        if name not in names
    ]
