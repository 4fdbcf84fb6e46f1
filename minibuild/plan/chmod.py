"""File modes as COPY and ADD take them: octal, or symbolic as chmod(1) has it (``u=rwX,go=rX``).

Symbols mean what they mean to BuildKit, which reads them as BSD's setmode(3) does: ``=`` clears setuid
and setgid of the classes it names on folders too, ``X`` looks at the mode before the change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple

_OCTAL = r"[0-7]+\Z"
_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o007, "a": 0o6777}
_PERMISSIONS = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0o111}
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_STANDARD = 0o6777
_STICKY = 0o1000
_OTHERS = 0o007
_ALL = 0o7777


class _Change(NamedTuple):
    """One step: ``+``, ``-``, ``X`` set or clear `bits`; ``u``, ``g``, ``o`` copy a class's to `shifts`."""

    what: str
    bits: int
    shifts: tuple[int, ...] = ()
    operator: str = ""


def check_chmod(text: str, where: SourceRange | None = None) -> None:
    """Raise `DockerfileError` where `text` is no mode."""
    try:
        if octal(text) is None:
            list(_changes(text))
    except DockerfileError as error:
        raise error.at(where) from None


def octal(text: str) -> int | None:
    """The mode that an octal text names, or None for a symbolic one."""
    if re.match(_OCTAL, text) and int(text, 8) <= _ALL:
        return int(text, 8)
    if text[:1].isdigit():
        raise DockerfileError(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            cure="Write it as 0755, or as symbols like u=rwX,go=rX.",
        )
    return None


def changer(text: str) -> Callable[[int, bool], int]:
    """A function from (permission bits, is a folder) to the bits after `text`; umask is taken as 0."""
    fixed = octal(text)
    if fixed is not None:
        return lambda _mode, _folder: fixed
    changes = list(_changes(text))

    def change(mode: int, folder: bool) -> int:
        after = mode
        for step in changes:
            if step.what == "+" or (step.what == "X" and (folder or mode & 0o111)):
                after |= step.bits
            elif step.what == "-":
                after &= ~step.bits
            elif step.what in _SHIFTS:
                after = _copied(after, step)
        return after

    return change


def _copied(mode: int, step: _Change) -> int:
    value = mode >> _SHIFTS[step.what] & 0o7
    for shift in step.shifts:
        if step.operator == "-":
            mode &= ~(value << shift)
        elif step.operator == "=":
            mode &= ~(0o7 << shift)
    for shift in step.shifts:
        if step.operator != "-":
            mode |= value << shift
    return mode


def _changes(text: str) -> Iterator[_Change]:
    """The changes that a symbolic mode asks for, in order; raises `DockerfileError`."""
    for clause in text.split(","):
        actions = clause.lstrip("ugoa")
        who = 0
        for name in clause[: len(clause) - len(actions)]:
            who |= _CLASSES[name]
        if not actions:
            raise _invalid(text)
        while actions:
            operator = actions[0]
            if operator not in "+-=":
                raise _invalid(text)
            rest = actions[1:].lstrip("rwxXstugo")
            who &= ~_STICKY
            yield from _action(operator, actions[1 : len(actions) - len(rest)], who)
            actions = rest


def _action(operator: str, permissions: str, who: int) -> Iterator[_Change]:
    plain = conditional = 0
    cleared = False  # by the first part of an "="
    for name in permissions:
        if name in "st":
            if not who or who & ~_OTHERS:
                who |= _STICKY if name == "t" else 0
                plain |= _STICKY if name == "t" else 0o6000
        elif name == "X" and operator != "-":
            conditional = _PERMISSIONS["X"]
        elif name in _PERMISSIONS:
            plain |= _PERMISSIONS[name]
        else:
            if plain:
                yield from _plain(operator, plain, who)
            if conditional:
                yield _Change("X", conditional & (who or _ALL))
            plain = conditional = 0
            cleared = cleared or operator == "="
            yield _Change(name, 0, _targets(who), operator)
    if plain or (operator == "=" and not cleared):
        yield from _plain(operator, plain, who)
    if conditional:
        yield _Change("X", conditional & (who or _ALL))


def _plain(operator: str, permissions: int, who: int) -> Iterator[_Change]:
    if operator == "=":
        yield _Change("-", who or _STANDARD)
    yield _Change("-" if operator == "-" else "+", permissions & (who or _ALL))


def _targets(who: int) -> tuple[int, ...]:
    reads = {6: 0o400, 3: 0o040, 0: 0o004}
    return tuple(shift for shift, bit in reads.items() if not who or who & bit)


def _invalid(text: str) -> DockerfileError:
    return DockerfileError(
        f"invalid chmod parameter: '{text}': invalid syntax",
        cure="Write it as 0755, or as symbols like u=rwX,go=rX.",
    )
