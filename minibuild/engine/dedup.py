"""``cache dedup``: equal files of the store's unpacked layers share their room on the disk."""

from __future__ import annotations

from minibuild_store.extents import can_share
from minibuild_store.store import Store

from minibuild.errors import SandboxError
from minibuild.layers.dedup import Dedup


def dedup(store: Store, *, dry_run: bool = False, isolation: str = "auto") -> Dedup:
    """Share equal files of all unpacked layers; builds and collections go on meanwhile, and lose nothing.

    Raises `SandboxError` where the store's file system cannot share, and then has changed nothing.
    """
    with store.workspace() as folder:
        works = can_share(folder)
    if not works:
        raise SandboxError(
            f"the file system of {store.root} cannot share blocks between files",
            cure="Have the store ($MINIBUILD_ROOT) on btrfs, or on xfs made with reflink=1.",
        )
    from minibuild.sandbox.client import Sandbox
    from minibuild.sandbox.executor import own_isolation

    with store.lease() as lease, Sandbox.start(own_isolation(isolation)) as sandbox:
        names = sorted(store.snapshots.names())
        lease.add(*names)
        folders = [path for name in names if (path := store.snapshots.path(name)) is not None]
        return sandbox.dedup(folders, dry_run=dry_run)
