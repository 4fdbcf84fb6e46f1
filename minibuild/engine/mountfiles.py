"""Cache mounts as a user handles them: chosen by id, written to a file, filled from one or from a cache."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, TypeVar

from minibuild_store.errors import StoreBusy, StoreFull
from minibuild_store.store import Store

from minibuild.cache.backend import Backend, backend_for
from minibuild.cache.document import CacheDocument
from minibuild.cache.localcache import LocalCache
from minibuild.cache.mounts import CachedMount, MountIdentity, NotedMount, note_use, noted_mounts
from minibuild.cache.spec import parse_cache
from minibuild.engine.cachemounts import fill, folder_of, lock_of, vacant
from minibuild.engine.mountexport import WAIT, Packed, pack
from minibuild.engine.sharing import services_for
from minibuild.errors import LayerError, UsageError
from minibuild.exporters.target import Destination, output_file
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import END, header, padding
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.options import RegistryOptions
from minibuild.sandbox.client import Sandbox
from minibuild.values import NamedTuple

_MEMBER = re.compile(r"(?:\./)?(index\.json|oci-layout|blobs/sha256/[0-9a-f]{64})\Z")
_CHUNK = 1 << 20
_T = TypeVar("_T")


class Imported(NamedTuple):
    """What became of a mount: ``imported``, or why not."""

    identity: MountIdentity
    outcome: str


def chosen(store: Store, names: Sequence[str]) -> list[NotedMount]:
    """The mounts of the store with these ids, or whose folder's name begins so; all where none is named.

    Raises `UsageError` for a name that none has.
    """
    present = {name.partition("-")[0] for name in os.listdir(store.caches)}
    noted = [mount for folder, mount in sorted(noted_mounts(store).items()) if folder in present]
    return _matching(noted, [mount.identity for mount in noted], names)


def _matching(things: Sequence[_T], identities: Sequence[MountIdentity], names: Sequence[str]) -> list[_T]:
    for name in names:
        if not any(is_named(identity, name) for identity in identities):
            known = ", ".join(dict.fromkeys(identity.shown for identity in identities))
            raise UsageError(
                f"there is no cache mount {name!r}",
                cure=f"There are: {known}." if known else "There is none.",
            )
    pairs = zip(things, identities, strict=True)
    return [thing for thing, one in pairs if not names or any(is_named(one, name) for name in names)]


def is_named(identity: MountIdentity, name: str) -> bool:
    """Whether `name` is the mount's id, or the beginning of its folder's name."""
    begun = len(name) >= 8 and identity.folder.startswith(name)
    return begun or identity.id.lstrip("/") == name.lstrip("/")


def export_mounts(
    store: Store, sandbox: Sandbox, mounts: Iterable[NotedMount], dest: Destination
) -> list[CachedMount]:
    """Write the mounts to `dest`: a tar of an OCI layout that is a cache of type local, without steps.

    Raises `UsageError` for a mount that is in use or holds nothing, `OutputError`.
    """
    with store.workspace() as work:
        packed = [_packed(store, sandbox, mount, work) for mount in mounts]
        document = CacheDocument((), mounts=tuple(one.mount for one in packed))
        uploads = {one.upload.descriptor.digest: one.upload for one in packed}
        layout = work / "layout"
        LocalCache(layout, "latest").save(document, list(uploads.values()), _silent)
        files = sorted(path for path in layout.rglob("*") if path.is_file())
        with output_file(dest) as out:
            for path in files:
                size = path.stat().st_size
                name = os.fsencode(path.relative_to(layout))
                out.write(header(Entry(name, Kind.FILE, 0o644, size=size)))
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        out.write(chunk)
                out.write(b"\0" * padding(size))
            out.write(END)
    return [one.mount for one in packed]


def _packed(store: Store, sandbox: Sandbox, mount: NotedMount, work: Path) -> Packed:
    identity = mount.identity
    try:
        packed = pack(store, sandbox, identity, mount.sharing, work)
    except StoreBusy:
        raise UsageError(f"a build uses cache mount {identity.shown}", cure="Try again later.") from None
    except LayerError as error:
        raise UsageError(f"cache mount {identity.shown}: {error.message}", cure=error.cure) from None
    if packed is None:
        raise UsageError(f"cache mount {identity.shown} is empty", cure="Name others with --id.")
    return packed


def import_mounts(
    store: Store,
    sandbox: Sandbox,
    source: str | BinaryIO,
    names: Sequence[str] = (),
    *,
    replace: bool = False,
    registry: RegistryOptions | None = None,
) -> list[Imported]:
    """Fill cache mounts from a file or folder that `export_mounts` wrote, or a cache (``type=...``).

    A mount that holds something here is left alone unless `replace`. Raises a `MinibuildError`.
    """
    with store.workspace() as work:
        try:
            with closing(_opened(source, work / "layout", registry or RegistryOptions())) as backend:
                document = backend.load()
                if document is None and isinstance(source, str) and source.startswith("type="):
                    raise UsageError(
                        "there is no cache of that name",
                        cure="Name one that --cache-to has written, with mounts=true.",
                    )
                mounts = () if document is None else document.mounts
                if not mounts:
                    raise UsageError(
                        "there are no cache mounts in it", cure="Name a file that cache mounts export wrote."
                    )
                wanted = _matching(mounts, [mount.identity for mount in mounts], names)
                with Store.open(work / "fetched") as fetched:
                    return [
                        _imported(store, sandbox, backend, fetched, one, replace=replace) for one in wanted
                    ]
        except StoreFull:  # which names a folder of the workspace
            raise StoreFull(str(store.root)) from None


def _opened(source: str | BinaryIO, work: Path, registry: RegistryOptions) -> Backend:
    if isinstance(source, str):
        if source.startswith("type="):
            spec = parse_cache(source, "cache mounts import", export=False)
            return backend_for(spec, services_for(registry, spec))
        if Path(source).is_dir():
            return LocalCache(Path(source), "latest")
    _unpack(source, work)
    return LocalCache(work, "latest")


def _unpack(source: str | BinaryIO, work: Path) -> None:
    """The files of a layout out of a tar, compressed or not; nothing else of it is taken."""
    import tarfile

    try:
        opened = (
            tarfile.open(source, "r:*")
            if isinstance(source, str)
            else tarfile.open(fileobj=source, mode="r|*")
        )
        with opened as archive:
            for member in archive:
                match = _MEMBER.match(member.name)
                content = archive.extractfile(member) if match is not None and member.isreg() else None
                if match is not None and content is not None:
                    path = work / match[1]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
    except (tarfile.TarError, EOFError) as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise UsageError(f"not a complete tar archive: {why}", cure="Export it again.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # said of what is written
            raise StoreFull(str(work)) from None
        name = source if isinstance(source, str) else "standard input"
        raise UsageError(f"cannot read {name}: {error.strerror}", cure="Check the path.") from None


def _imported(
    store: Store, sandbox: Sandbox, backend: Backend, fetched: Store, mount: CachedMount, *, replace: bool
) -> Imported:
    identity, descriptor = mount.identity, mount.layer.descriptor
    folder = folder_of(store, sandbox, identity)
    try:
        with store.lock(lock_of(folder), timeout=WAIT):
            if not vacant(folder) and not replace:
                return Imported(identity, "left alone: it holds something here")
            backend.fetch(descriptor, fetched.blobs, _silent)
            if not vacant(folder):
                sandbox.remove(folder)
            fill(store, sandbox, folder, mount, fetched.blobs.path(descriptor.digest))
            note_use(store, identity, mount.sharing)
    except StoreBusy:
        return Imported(identity, "left alone: a build uses it")
    return Imported(identity, "imported")


def _silent(_descriptor: Descriptor, _done: int) -> None:
    pass
