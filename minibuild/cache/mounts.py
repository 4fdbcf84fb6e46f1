"""Cache mounts as a store and a shared cache know them: by what makes two of them one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from minibuild_store.store import Store

from minibuild.oci.image import Layer
from minibuild.values import NamedTuple


class MountIdentity(NamedTuple):
    """What must be equal for two steps to share a folder, as in BuildKit; `seed` is a chain ID or ""."""

    id: str
    subpath: str
    mode: int
    uid: int
    gid: int
    seed: str = ""

    @property
    def folder(self) -> str:
        """The folder's name below `Store.caches`, without what the form of owners and ``private`` add."""
        return hashlib.sha256(json.dumps(list(self)).encode()).hexdigest()[:32]

    @property
    def shown(self) -> str:
        """The id as the Dockerfile has it; one of another name space has that before it."""
        return self.id.removeprefix("/")


class CachedMount(NamedTuple):
    """A cache mount that a shared cache holds: its files as a layer."""

    identity: MountIdentity
    sharing: str
    layer: Layer


class NotedMount(NamedTuple):
    """What the store noted when a step last used a mount, `used_ns` after the epoch."""

    identity: MountIdentity
    sharing: str
    used_ns: int


def note_use(store: Store, identity: MountIdentity, sharing: str) -> None:
    """Remember that a step uses the folder of `identity` now."""
    document = {**identity._asdict(), "sharing": sharing}
    store.records("mounts").put(identity.folder, json.dumps(document, separators=(",", ":")).encode())


def noted_mounts(store: Store) -> dict[str, NotedMount]:
    """What was noted, by the folder's name; notes of older versions, which say less, are left out."""
    records = store.records("mounts")
    found = {}
    for entry in records.entries():
        noted = _noted(records.get(entry.name), entry.used_ns)
        if noted is not None:
            found[entry.name] = noted
    return found


def _noted(data: bytes | None, used_ns: int) -> NotedMount | None:
    try:
        document = json.loads(data or b"")
        sharing = document.pop("sharing")
        return NotedMount(MountIdentity(**document), sharing, used_ns)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_identity(row: Sequence[object]) -> MountIdentity:
    """An identity as a shared cache has it; raises `TypeError` or `ValueError` for anything else."""
    name, subpath, mode, uid, gid, seed = row
    texts, numbers = (name, subpath, seed), (mode, uid, gid)
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, int) for one in numbers):
        raise TypeError("not the identity of a cache mount")
    identity = MountIdentity(*row)  # type: ignore[arg-type]
    if not (0 <= identity.mode <= 0o7777 and 0 <= identity.uid < 1 << 32 and 0 <= identity.gid < 1 << 32):
        raise ValueError("a mode or an owner is out of bounds")
    return identity
