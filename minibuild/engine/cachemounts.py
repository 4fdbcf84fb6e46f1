"""RUN --mount=type=cache: whose a folder is while a step uses it, and what it begins with.

A step that shares a folder holds the lock on it together with others, one that has it alone holds it alone,
and so does whoever packs, fills or deletes it: no file changes under the hands of those.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreBusy, StoreError
from minibuild_store.store import Store

from minibuild.cache.mounts import MountIdentity, note_use
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, MinibuildError
from minibuild.plan import steps
from minibuild.sandbox.spec import FolderMount

if TYPE_CHECKING:
    from minibuild.cache.mounts import CachedMount
    from minibuild.cache.shared import SharedMount
    from minibuild.sandbox.client import Sandbox


def identity_of(mount: steps.CacheMount, seed: str) -> MountIdentity:
    """`seed` is the chain ID of what the mount begins with, "" for nothing."""
    return MountIdentity(mount.id, mount.subpath, mount.mode, mount.uid, mount.gid, seed)


def folder_of(store: Store, sandbox: Sandbox, identity: MountIdentity) -> Path:
    """Where the files of a mount are kept, in the form that `sandbox` can read."""
    return store.caches / (identity.folder + sandbox.form.suffix.replace(".", "-"))


def lock_of(folder: Path) -> str:
    """The name of the store's lock on a mount's folder."""
    return f"cache {folder}"


def vacant(folder: Path) -> bool:
    """Whether a mount's folder is missing or empty; one that only its owner may read is neither."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except PermissionError:
        return False


class CacheMounts:
    """The cache mounts of one step; `stack` gives up their locks when the step has ended."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self._session = session
        self._store = session.store
        self._stack = stack
        self._held: set[Path] = set()

    def take(
        self, mounts: Sequence[steps.Mount], sources: Mapping[int, Filesystem]
    ) -> dict[int, FolderMount]:
        """The cache mounts among `mounts`, by position; `sources` are what they begin with.

        All steps take folders in one order, so that no two wait for each other. A folder that a step both
        locks and shares is its alone.
        """
        found = []
        for number, mount in enumerate(mounts):
            if isinstance(mount, steps.CacheMount):
                source = sources.get(number)
                identity = identity_of(mount, "" if source is None else source.chain)
                found.append((number, mount, identity, source))
        found.sort(key=lambda one: (one[2].folder, one[1].sharing != "locked"))
        return {number: self._mount(mount, identity, source) for number, mount, identity, source in found}

    def _mount(
        self, mount: steps.CacheMount, identity: MountIdentity, source: Filesystem | None
    ) -> FolderMount:
        """Take what the mount's ``sharing`` asks for and see to it that the folder has begun."""
        sandbox = self._session.sandbox()
        folder = folder_of(self._store, sandbox, identity)
        if mount.sharing == "private":
            folder = self._first_free(folder)
        elif mount.sharing == "locked" or sandbox.lends_folders:
            self._take(folder)
        if folder in self._held:
            self._begin(folder, identity, source)
        else:
            self._share(folder, identity, source)
        note_use(self._store, identity, mount.sharing)
        name = "" if source is None else mount.subpath.rpartition("/")[2]
        return FolderMount(mount.target, folder, mount.readonly, mount.mode, mount.uid, mount.gid, name)

    def _take(self, folder: Path) -> None:
        """Have `folder` alone; a step that mounts it twice has it once."""
        if folder not in self._held:
            self._stack.enter_context(self._store.lock(lock_of(folder), waiting=self._session.check))
            self._held.add(folder)

    def _first_free(self, folder: Path) -> Path:
        """The first folder of a family that nobody uses right now."""
        number = 0
        while True:
            candidate = folder if not number else folder.with_name(f"{folder.name}-{number}")
            try:
                self._stack.enter_context(self._store.lock(lock_of(candidate), timeout=0))
            except StoreBusy:
                number += 1
                continue
            self._held.add(candidate)
            return candidate

    def _share(self, folder: Path, identity: MountIdentity, source: Filesystem | None) -> None:
        """Use `folder` together with others; once more where it was deleted before the lock was had."""
        while True:
            self._begin_alone(folder, identity, source)
            with ExitStack() as held:
                held.enter_context(
                    self._store.lock(lock_of(folder), shared=True, waiting=self._session.check)
                )
                if source is None or folder.is_dir():
                    self._stack.enter_context(held.pop_all())
                    return

    def _begin_alone(self, folder: Path, identity: MountIdentity, source: Filesystem | None) -> None:
        """`_begin` for a folder that others may use; where one does, it has begun."""
        if not vacant(folder):
            return
        with (
            self._store.lock(f"begin {folder}", waiting=self._session.check),
            suppress(StoreBusy),
            self._store.lock(lock_of(folder), timeout=0),
        ):
            self._begin(folder, identity, source)

    def _begin(self, folder: Path, identity: MountIdentity, source: Filesystem | None) -> None:
        """Fill a vacant folder from a shared cache, else with what ``from`` names."""
        if not vacant(folder):
            return
        shared = self._session.shared
        hit = None if shared is None else shared.mount(identity.folder)
        if hit is not None and self._fetched(folder, hit):
            return
        if source is not None and not folder.is_dir():
            self._seed(folder, source)

    def _fetched(self, folder: Path, hit: SharedMount) -> bool:
        """Whether the folder has what a shared cache held; what goes wrong costs a warning."""
        sandbox, layer = self._session.sandbox(), hit.mount.layer
        try:
            with (
                self._store.workspace(remove=sandbox.remove) as work,
                Store.open(work / "fetched") as fetched,
            ):
                hit.layer.fetch(fetched.blobs, self._session.pulled)
                with self._session.working():
                    fill(self._store, sandbox, folder, hit.mount, fetched.blobs.path(layer.descriptor.digest))
        except Cancelled:
            raise
        except (MinibuildError, StoreError, OSError) as error:
            hit.layer.forget(str(error))
            return False
        self._session.said(f"cache mount {hit.mount.identity.shown} begins with what {hit.origin} has")
        return True

    def _seed(self, folder: Path, source: Filesystem) -> None:
        sandbox = self._session.sandbox()
        with self._store.workspace(remove=sandbox.remove) as work:
            made = work / "seeded"
            made.mkdir()
            made.chmod(0o755)  # whatever the umask is
            for layer in source.layers:
                blob = self._session.layers.path(layer.descriptor)
                with self._session.working():
                    sandbox.unpack(blob, layer.descriptor.media_type, made, layer.diff_id)
            made.rename(folder)


def fill(store: Store, sandbox: Sandbox, folder: Path, mount: CachedMount, blob: Path) -> None:
    """Put the files of `mount`, packed in `blob`, into its vacant `folder`, whole or not at all.

    The caller holds the lock on the folder. Raises a `MinibuildError` or an `OSError`.
    """
    identity, layer = mount.identity, mount.layer
    with store.workspace(remove=sandbox.remove) as work:
        made = work / "filled"
        made.mkdir()
        sandbox.unpack(blob, layer.descriptor.media_type, made, layer.diff_id)
        sandbox.place(made, folder, mode=identity.mode, uid=identity.uid, gid=identity.gid)
