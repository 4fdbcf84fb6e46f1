"""A COPY written before the layers above it are: over what it will find there in all likelihood.

A layer is a function of what is copied and of what it is told of the tree below. So it can be written as soon
as that can be guessed, with each answer noted. At the step's turn the same is asked again: where all
answers are the same, so is the layer; else it is written again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import takewhile
from typing import TypeGuard

from minibuild_store import turns
from minibuild_store.errors import StoreError

from minibuild.context.place import Lower
from minibuild.context.select import split_wildcards
from minibuild.engine import copy, copylayer
from minibuild.engine.gathered import Gathered, TreeLower
from minibuild.engine.lookup import Place
from minibuild.engine.placing import placement_of
from minibuild.engine.session import Session
from minibuild.engine.sources import Files
from minibuild.errors import Cancelled, MinibuildError
from minibuild.layers.entry import Entry, Kind
from minibuild.plan import steps

_MOST = 20_000  # answers that are noted: more are not worth their memory


class Unforeseen(Exception):
    """Something is asked that is better answered at the step's turn."""


class Noted(TreeLower):
    """A guess at what lies below a step: `likely` on `below`. What it answers is noted."""

    def __init__(self, below: TreeLower, likely: Lower) -> None:
        self._below = below
        self._likely = likely
        self._entries: dict[bytes, Entry | None] = {}
        self._files: dict[bytes, bytes | None] = {}

    @property
    def chain(self) -> None:
        return None

    def entry(self, path: bytes) -> Entry | None:
        answer = self._entries[path] = self._likely.entry(path)
        if len(self._entries) > _MOST:
            raise Unforeseen
        return answer

    def file(self, path: bytes) -> bytes | None:
        answer = self._files[path] = self._below.file(path)
        return answer

    def content(self, stack: ExitStack, path: bytes) -> bytes:
        raise Unforeseen

    def warn(self, text: str) -> None:
        raise Unforeseen

    def agrees(self, lower: TreeLower) -> bool:
        """Whether `lower` gives every answer that was given here."""
        return all(lower.entry(path) == answer for path, answer in self._entries.items()) and all(
            lower.file(path) == answer for path, answer in self._files.items()
        )


def followers(place: Place) -> list[int]:
    """The COPYs and ADDs right below the step that may be begun while it is written."""
    below = range(place.number + 1, min(place.number + _at_once(), len(place.stage.steps)))
    return [*takewhile(lambda number: is_plain(place.stage.steps[number]), below)]


def is_plain(step: steps.Step) -> TypeGuard[steps.CopyStep]:
    """Whether it is a COPY or ADD that has to know what is below it."""
    return isinstance(step, steps.CopyStep) and not step.link


def _at_once() -> int:
    """How many are written side by side: each keeps two processors busy, and holds the names of a layer."""
    return min(max(2, turns.at_once() // 2), 4)


def likely(
    session: Session,
    copies: Sequence[tuple[steps.CopyStep, Files]],
    below: TreeLower,
    made_ns: int,
) -> Noted | None:
    """What the last of `copies` will find: `below`, and the folders that the others are sure to make.

    None where it may well find something else, since another one puts something where it does.
    """
    guess: Lower = below
    taken: list[bytes] = []
    try:
        for step, files in copies:
            noted = Noted(below, guess)
            placement = placement_of(Gathered(session, step, files, noted, made_ns, False))
            places = _places(step, files, below, placement.prepare(step.dest))
            if step is copies[-1][0]:
                if any(_overlap(one, other) for one in places for other in taken):
                    return None
                return Noted(below, guess)
            taken += places
            guess = placement
    except (Unforeseen, MinibuildError, OSError):
        return None
    return None


def _places(step: steps.CopyStep, files: Files, below: Lower, target: bytes) -> list[bytes]:
    """Where the step puts something: files into a folder that is there, anything else all over the target."""
    there = below.entry(target)
    if there is None or there.kind is not Kind.DIR or step.parents or step.unpack:
        return [target]
    names = [_name(item, files) for item in step.items]
    return [target] if b"" in names else [target + b"/" + name if target else name for name in names]


def _name(item: steps.CopyItem, files: Files) -> bytes:
    """What the item is called in a folder, b"" where it is not a single file."""
    match item:
        case steps.InlineItem(name):
            return os.fsencode(name)
        case steps.PathItem(pattern):
            path, wild = split_wildcards(pattern)
            entry = None if wild else files.view.entry(files.view.resolve(path))
            if entry is not None and entry.kind is not Kind.DIR:
                return os.path.basename(path)
    return b""


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether one path is the other, or in it."""
    return (
        not one or not other or (one + b"/").startswith(other + b"/") or (other + b"/").startswith(one + b"/")
    )


def write(
    session: Session,
    step: steps.CopyStep,
    files: Files,
    lower: Noted,
    made_ns: int,
    *,
    missed: bool,
    noted: bool,
) -> Gathered | None:
    """The step with its layer, written over a guess; None where that failed: at its turn it may not.

    Unless the step above it `missed`, so that this one will, it is written only as it would be in any case.
    """
    try:
        gathered = copy.gather(session, step, files, lower, made_ns, write_first=True, noted=noted)
        if gathered.layer is None:
            if not missed and step.cacheable:
                return None
            with session.working():
                gathered.layer = copylayer.write_copy(gathered)
    except Cancelled:
        raise
    except (Unforeseen, MinibuildError, StoreError, OSError):
        return None
    return gathered
