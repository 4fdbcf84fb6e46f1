"""Asking one place after another: mirrors in order, then the registry itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from minibuild.oci.reference import Reference
from minibuild.registry.errors import RegistryError, Unreachable
from minibuild.registry.mirrors import Place, places
from minibuild.registry.session import Session

Result = TypeVar("Result")


def first_of(session: Session, ref: Reference, ask: Callable[[Place], Result]) -> Result:
    """What the first place that can says; raises the last place's error, with what the others said.

    A place that could not be reached is passed over for a while, so that a dead mirror costs one wait and not
    one for each blob.
    """
    candidates = places(ref, session.options)
    alive = [place for place in candidates if not session.is_down(place)] or list(candidates)
    failures: list[tuple[Place, RegistryError]] = []
    for place in alive:
        try:
            return ask(place)
        except RegistryError as error:
            if isinstance(error, Unreachable):
                session.set_down(place)
            failures.append((place, error))
    last = failures[-1][1]
    if len(failures) > 1:
        others = "; ".join(f"{place.registry}: {error.message}" for place, error in failures[:-1])
        last.message = f"{last.message} (before that, {others})"
        last.args = (last.message,)
    raise last
