"""File modes as COPY and ADD take them: octal, or symbolic as chmod(1) (``u=rwX,go=rX``)."""

from __future__ import annotations

import re
from collections.abc import Callable

from minibuild.errors import DockerfileError, SourceRange

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_OCTAL = re.compile(r"[0-7]+\Z")
_SHIFT = {"u": 6, "g": 3, "o": 0}


def check_chmod(text: str, where: SourceRange | None = None) -> None:
    """Raise `DockerfileError` where `text` is no mode."""
    if _OCTAL.match(text) and int(text, 8) <= 0o7777:
        return
    if text[0].isdigit() or not all(_CLAUSE.match(clause) for clause in text.split(",")):
        raise DockerfileError(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            where=where,
            cure="Write it as 0755, or as symbols like u=rwX,go=rX.",
        )


def octal(text: str) -> int | None:
    """The mode that an octal text names, or None for a symbolic one."""
    return int(text, 8) if _OCTAL.match(text) else None


def changer(text: str) -> Callable[[int, bool], int]:
    """A function from (permission bits, is a folder) to the bits after `text`; umask is taken as 0."""
    fixed = octal(text)
    if fixed is not None:
        return lambda _mode, _folder: fixed
    clauses = [_parse_clause(clause) for clause in text.split(",")]

    def change(mode: int, folder: bool) -> int:
        for who, actions in clauses:
            for operator, permissions in actions:
                mode = _act(mode, folder, who, operator, permissions)
        return mode

    return change


def _parse_clause(clause: str) -> tuple[str, list[tuple[str, str]]]:
    match = _CLAUSE.match(clause)
    if match is None:
        raise DockerfileError(f"invalid chmod parameter: '{clause}'")
    return match[1] or "a", [(found[1], found[2]) for found in _ACTION.finditer(match[2])]


def _act(mode: int, folder: bool, who: str, operator: str, permissions: str) -> int:
    classes = "ugo" if "a" in who else who
    bits = clear = 0
    for name in classes:
        shift = _SHIFT[name]
        clear |= 0o7 << shift
        bits |= _bits(mode, folder, permissions) << shift
        if "s" in permissions and name in "ug":
            bits |= 0o4000 if name == "u" else 0o2000
    if "t" in permissions:
        bits |= 0o1000
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    special = (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    keep_special = 0 if not folder else mode & special
    return (mode & ~clear & ~special) | bits | keep_special


def _bits(mode: int, folder: bool, permissions: str) -> int:
    if permissions in _SHIFT and permissions:
        return (mode >> _SHIFT[permissions]) & 0o7
    value = 0
    value |= 0o4 if "r" in permissions else 0
    value |= 0o2 if "w" in permissions else 0
    value |= 0o1 if "x" in permissions else 0
    if "X" in permissions and (folder or mode & 0o111):
        value |= 0o1
    return value
