"""A content-addressed store for builders: blobs, records, snapshots and locks in one folder.

    with Store.open(Path("store")) as store:
        info = store.blobs.put(b"content")
        assert store.blobs.get(info.digest) == b"content"

Needs the standard library only and knows nothing of images. Public are the names of `__all__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minibuild_store.blobs import BlobInfo, Blobs, BlobWriter
    from minibuild_store.digest import Digest
    from minibuild_store.errors import (
        BlobDamaged,
        BlobNotFound,
        InvalidDigest,
        StoreBusy,
        StoreError,
        StoreFull,
        StoreUnusable,
    )
    from minibuild_store.gc import GcReport, Roots
    from minibuild_store.lock import Lock
    from minibuild_store.records import Records
    from minibuild_store.session import Lease, Workspace
    from minibuild_store.snapshots import Snapshots
    from minibuild_store.store import Store

_HOMES = {
    "BlobDamaged": "minibuild_store.errors",
    "BlobInfo": "minibuild_store.blobs",
    "BlobNotFound": "minibuild_store.errors",
    "BlobWriter": "minibuild_store.blobs",
    "Blobs": "minibuild_store.blobs",
    "Digest": "minibuild_store.digest",
    "GcReport": "minibuild_store.gc",
    "InvalidDigest": "minibuild_store.errors",
    "Lease": "minibuild_store.session",
    "Lock": "minibuild_store.lock",
    "Records": "minibuild_store.records",
    "Roots": "minibuild_store.gc",
    "Snapshots": "minibuild_store.snapshots",
    "Store": "minibuild_store.store",
    "StoreBusy": "minibuild_store.errors",
    "StoreError": "minibuild_store.errors",
    "StoreFull": "minibuild_store.errors",
    "StoreUnusable": "minibuild_store.errors",
    "Workspace": "minibuild_store.session",
}

__all__ = [
    "BlobDamaged",
    "BlobInfo",
    "BlobNotFound",
    "BlobWriter",
    "Blobs",
    "Digest",
    "GcReport",
    "InvalidDigest",
    "Lease",
    "Lock",
    "Records",
    "Roots",
    "Snapshots",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreUnusable",
    "Workspace",
]


def __getattr__(name: str) -> object:
    # The store's parts are loaded one by one as a build needs them.
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
