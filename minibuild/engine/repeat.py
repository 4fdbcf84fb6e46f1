"""A build over a store that lost something: the steps are gone through again, and what is missing is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from minibuild_store.errors import BlobDamaged, BlobNotFound

from minibuild.engine.layerblobs import LayerNotShared
from minibuild.engine.session import Session
from minibuild.errors import LayerError

T = TypeVar("T")


def repaired(session: Session, attempt: Callable[[], T]) -> T:
    """What `attempt` gives; tried again for each blob that turns out to be gone or damaged, once for each.

    What a shared cache told of and does not give is asked of the next one.
    """
    lost: set[str] = set()
    while True:
        try:
            return attempt()
        except (LayerError, BlobDamaged, BlobNotFound) as error:
            with session.after_failure():
                digest = session.layers.culprit(error)
            again = digest in lost and not isinstance(error, LayerNotShared)  # each cache tells of it once
            if digest is None or again:
                raise
            lost.add(digest)
            if not (isinstance(error, LayerNotShared) and error.expected):
                session.notice("warning", f"layer {digest.short} is gone or damaged; what made it runs again")
        session.begin_again()
