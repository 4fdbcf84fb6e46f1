"""How often things of the store were used, and which of them several images share.

Counted from the records that builds leave anyway: no build writes anything for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.builds import Builds
from minibuild.cache.inventory import Inventory, Thing

_COUNTED = ("step", "base", "image")


class Usage:
    """Of the things of one inventory, by the builds that are on record."""

    def __init__(self, store: Store, inventory: Inventory) -> None:
        self._images: dict[Digest, set[Digest]] = defaultdict(set)  # manifests by the layers they name
        for root in inventory.roots:
            for layer in root.layers:
                self._images[layer].add(root.documents[0])
        self._counted = _counted(store, inventory)

    def uses(self, thing: Thing) -> int | None:
        """How many builds made it, found it or built on it; None for what builds keep no record of."""
        return self._counted[thing.digest] if thing.kind in _COUNTED and thing.digest is not None else None

    def shared(self, thing: Thing) -> bool:
        """Whether more than one image has it: with one of them removed, it stays."""
        return thing.digest is not None and len(self._images.get(thing.digest, ())) > 1


def _counted(store: Store, inventory: Inventory) -> Counter[Digest | None]:
    by_key = {key: thing.digest for thing in inventory.things for key in thing.steps}
    by_base = {str(root.documents[0]): root.layers for root in inventory.roots}
    found: Counter[Digest | None] = Counter()
    for record in Builds(store).all():
        used = {by_key[row.key] for row in record.steps if row.key in by_key}
        for stage in record.stages:
            used.update(by_base.get(stage.base.rpartition("@")[2], ()))
        found.update(used)
    return found
