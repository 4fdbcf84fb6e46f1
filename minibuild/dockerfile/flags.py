"""Flags between an instruction's name and its arguments: ``--name=value``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from minibuild.dockerfile.gotext import BLANKS
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.errors import DockerfileError

_SPACES = BLANKS + "\n"


class Kind(Enum):
    """What a flag takes: a boolean, one text, or a text each of the several times it is given."""

    BOOL = 1
    TEXT = 2
    TEXTS = 3


class Flags:
    """The flags an instruction was given; a flag never given is None or empty."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        values = self._values.get(name)
        return values[0] if values else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        values = self._values.get(name)
        return values[0].lower() != "false" if values else None


def parse_flags(words: list[str], known: Mapping[str, Kind]) -> Flags:
    """The words of `split_flags` as flags out of `known`. Raises DockerfileError."""
    values: dict[str, list[str]] = {}
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag[2:]
        kind = known.get(name)
        if kind is None:
            listed = ", ".join(f"--{one}" for one in known)
            raise DockerfileError(
                f"unknown flag: {flag}{did_you_mean(name, known)}",
                cure=f"The flags here are {listed}." if listed else "This instruction takes no flags.",
            )
        if name in values and kind is not Kind.TEXTS:
            raise DockerfileError(f"duplicate flag specified: {flag}", cure=f"Give {flag} once.")
        _check(flag, kind, equals, value)
        values.setdefault(name, []).append(value)
    return Flags(values)


def _check(flag: str, kind: Kind, equals: str, value: str) -> None:
    if kind is Kind.BOOL:
        if equals and not value:
            raise DockerfileError(f"missing a value on flag: {flag}", cure=f"Write {flag}=true or {flag}.")
        if value.lower() not in ("", "true", "false"):
            raise DockerfileError(
                f"expecting boolean value for flag {flag}, not: {value}", cure=f"Write {flag}=true or =false."
            )
    elif not equals:
        raise DockerfileError(f"missing a value on flag: {flag}", cure=f"Write {flag}=VALUE.")


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """The leading words of `text` that start with ``--``, unquoted, and what follows them.

    A word that is ``--`` alone ends the flags and belongs to neither.
    """
    words: list[str] = []
    at, size = 0, len(text)
    while True:
        while at < size and text[at] in _SPACES:
            at += 1
        if not text.startswith("--", at):
            return words, text[at:]
        word, at, quoted = _word(text, at, escape)
        if word == "--":
            return words, text[at:]
        if word or quoted:
            words.append(word)


def _word(text: str, at: int, escape: str) -> tuple[str, int, bool]:
    """The word at `at` without quotes and escapes, where it ends, and whether any of it was quoted."""
    out: list[str] = []
    mark, quoted, size = "", False, len(text)
    while at < size:
        ch = text[at]
        if mark == "" and ch in _SPACES:
            break
        at += 1
        if mark == "" and ch in "'\"":
            mark, quoted = ch, True
        elif ch == mark:
            mark = ""
        elif ch == escape:
            out.append(text[at : at + 1])
            at += 1
        else:
            out.append(ch)
    return "".join(out), min(at, size), quoted
