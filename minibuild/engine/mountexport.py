"""Cache mounts packed as layers, for shared caches and files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from minibuild_store.digest import Digest
from minibuild_store.errors import StoreBusy, StoreError
from minibuild_store.store import Store

from minibuild.cache.backend import Upload
from minibuild.cache.mounts import CachedMount, MountIdentity
from minibuild.cache.shared import SharedMount
from minibuild.engine.cachemounts import folder_of, identity_of, lock_of, vacant
from minibuild.engine.session import Session
from minibuild.errors import LayerError, OutputError
from minibuild.layers.compress import DEFAULT
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import Rootfs
from minibuild.values import NamedTuple

WAIT = 20.0
"""Seconds that a mount that another build uses is waited for."""


class Packed(NamedTuple):
    """A mount, and what puts its layer into a cache."""

    mount: CachedMount
    upload: Upload


def pack(
    store: Store, sandbox: Sandbox, identity: MountIdentity, sharing: str, work: Path, *, wait: float = WAIT
) -> Packed | None:
    """The files of a mount as a layer in the folder `work`; None for one that holds nothing.

    One that no step used since it was last packed is packed when its bytes are asked for. Raises `StoreBusy`
    where a step uses it for longer than `wait` seconds, `LayerError` for files that no layer can hold.
    """
    folder = folder_of(store, sandbox, identity)
    with store.lock(lock_of(folder), timeout=wait):
        if vacant(folder):
            return None
        used = _used(store, identity)
        layer = _known(store, folder, used)
        if layer is None:
            layer = _write(sandbox, folder, work)
            if layer is None:
                return None
            _note(store, folder, layer, used)

    def opener() -> IO[bytes]:
        blob = work / layer.diff_id.hex
        if not blob.exists():
            with store.lock(lock_of(folder), timeout=wait):
                again = _write(sandbox, folder, work)
            if again != layer:
                store.records("packed-mounts").delete(folder.name)
                raise OutputError(f"cache mount {identity.shown} has changed meanwhile", cure="Try again.")
        return blob.open("rb")

    return Packed(CachedMount(identity, sharing, layer), Upload(layer.descriptor, opener))


def _write(sandbox: Sandbox, folder: Path, work: Path) -> Layer | None:
    """Pack `folder` into the file of `work` that is named for the diff ID."""
    made = work / f"{folder.name}.part"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        result = sandbox.diff(Rootfs((), folder, work), fd, DEFAULT)
    finally:
        os.close(fd)
    if not result.entries:
        return None
    made.rename(work / result.diff_id.hex)
    return Layer(result.diff_id, Descriptor(result.media_type, result.digest, result.size))


def _used(store: Store, identity: MountIdentity) -> int:
    records = store.records("mounts")
    return next((entry.used_ns for entry in records.entries() if entry.name == identity.folder), 0)


def _known(store: Store, folder: Path, used_ns: int) -> Layer | None:
    """What the folder was packed as, if that was after its last use."""
    try:
        document = json.loads(store.records("packed-mounts").get(folder.name) or b"")
        if not used_ns or document["used"] != used_ns:
            return None
        descriptor = Descriptor(document["type"], Digest.parse(document["digest"]), document["size"])
        return Layer(Digest.parse(document["diff_id"]), descriptor)
    except (ValueError, KeyError, TypeError, StoreError):
        return None


def _note(store: Store, folder: Path, layer: Layer, used_ns: int) -> None:
    document = {
        "used": used_ns,
        "diff_id": layer.diff_id,
        "type": layer.descriptor.media_type,
        "digest": layer.descriptor.digest,
        "size": layer.descriptor.size,
    }
    store.records("packed-mounts").put(folder.name, json.dumps(document, separators=(",", ":")).encode())


class MountExport:
    """The mounts of the steps of one build, those that were executed and those that were not.

    What no step here needed stays in the shared cache that has it, and is passed on from there. `work` is a
    folder for packed files.
    """

    def __init__(self, session: Session, work: Path) -> None:
        self._session = session
        self._work = work
        self._packed: list[Packed] | None = None

    def packed(self) -> list[Packed]:
        """All of them; one that cannot be packed costs a warning."""
        if self._packed is None:
            used = {identity_of(mount, seed): mount.sharing for mount, seed in self._session.cache_mounts}
            found = (self._one(identity, sharing) for identity, sharing in used.items())
            self._packed = [one for one in found if one is not None]
        return self._packed

    def _one(self, identity: MountIdentity, sharing: str) -> Packed | None:
        session = self._session
        try:
            if self._is_here(identity):
                packed = pack(session.store, session.sandbox(), identity, sharing, self._work)
                if packed is not None:
                    return packed
        except StoreBusy:
            self._warn(identity, "another build uses it")
        except LayerError as error:
            self._warn(identity, error.message)
        hit = session.shared.mount(identity.folder) if session.shared is not None else None
        return None if hit is None else self._passed_on(hit)

    def _is_here(self, identity: MountIdentity) -> bool:
        """Whether some form of the folder is: no sandbox is started for nothing."""
        caches = self._session.store.caches
        return any(name.partition("-")[0] == identity.folder for name in os.listdir(caches))

    def _passed_on(self, hit: SharedMount) -> Packed:
        descriptor = hit.mount.layer.descriptor

        def opener() -> IO[bytes]:
            with Store.open(self._work / f"from-{descriptor.digest.hex}") as fetched:
                hit.layer.fetch(fetched.blobs, self._session.pulled)
                return fetched.blobs.path(descriptor.digest).open("rb")

        return Packed(hit.mount, Upload(descriptor, opener, hit.layer.reference))

    def _warn(self, identity: MountIdentity, why: str) -> None:
        self._session.notice("warning", f"cache mount {identity.shown} was not packed: {why}")
