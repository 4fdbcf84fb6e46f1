"""Read every blob of a store again, and name those that are not what their digests say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, BlobNotFound, StoreFull
from minibuild_store.store import Store

from minibuild.cache.steps import Eviction, StepCache
from minibuild.threads import join, start
from minibuild.values import NamedTuple

_THREADS = 4
_CHUNK = 1 << 20


class Damaged(NamedTuple):
    """A blob that is not what its digest says; `users` are the steps and images that need it."""

    digest: Digest
    size: int
    users: tuple[str, ...]


class Verified(NamedTuple):
    blobs: int
    bytes: int
    damaged: tuple[Damaged, ...]


def verify(store: Store, *, check: Callable[[], None] = lambda: None, repair: bool = True) -> Verified:
    """Read all blobs, several at once. With `repair` damaged ones are removed, to be made or pulled again.

    `check` is called between blobs and may raise to end it.
    """
    from minibuild.cache.inventory import Inventory

    inventory = Inventory(store)
    users = {thing.digest: tuple(thing.names) for thing in inventory.things if thing.digest is not None}
    queue = sorted(inventory.blobs.items(), key=lambda item: item[1])
    found: list[Damaged] = []
    errors: list[BaseException] = []
    steps = {thing.digest: thing.steps for thing in inventory.things}

    def work() -> None:
        while queue and not errors:
            try:
                digest, size = queue.pop()
                check()
                if not whole(store, digest, repair=repair):
                    found.append(Damaged(digest, size, users.get(digest, ())))
                    if repair:
                        _note(store, digest, steps.get(digest, ()))
            except IndexError:
                return
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    try:
        start(*threads)
    except BaseException as error:
        errors.append(error)
    join(threads)
    if errors:
        raise errors[0]
    return Verified(len(inventory.blobs), sum(inventory.blobs.values()), tuple(sorted(found)))


def _note(store: Store, digest: Digest, steps: Iterable[str]) -> None:
    """Remember why the steps of a removed blob have no result, unless one was built again already."""
    cache = StepCache(store)
    with suppress(StoreFull):
        for key in steps:
            cache.evict(key, Eviction("verify", time.time()))
            if store.blobs.has(digest):
                cache.spared(key)


def whole(store: Store, digest: Digest, *, repair: bool) -> bool:
    """Whether the blob is what its digest says; one that is gone meanwhile counts as whole."""
    try:
        if repair:
            with store.blobs.open_verified(digest) as blob:  # removes what is damaged
                while blob.read(_CHUNK):
                    pass
            return True
        with store.blobs.open(digest) as file:
            from minibuild_store.verify import hash_file

            return f"{digest.algorithm}:{hash_file(file.fileno(), digest.algorithm).hexdigest()}" == digest
    except BlobNotFound:
        return True
    except BlobDamaged:
        return False
