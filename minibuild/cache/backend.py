"""What a shared cache is kept in. Others can add theirs by entry points: ``minibuild.cache_backends``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import IO, Protocol, cast

from minibuild_store.blobs import Blobs

from minibuild.cache.document import CacheDocument
from minibuild.cache.spec import CacheSpec
from minibuild.errors import UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.values import NamedTuple

_BUILT_IN: Mapping[str, str] = {
    "registry": "minibuild.cache.registrycache",
    "local": "minibuild.cache.localcache",
    "s3": "minibuild.cache.objectcache",
    "gcs": "minibuild.cache.objectcache",
    "azblob": "minibuild.cache.objectcache",
    "gha": "minibuild.cache.ghacache",
}

Progress = Callable[[Descriptor, int], None]


class Upload(NamedTuple):
    """A layer to put into a cache.

    `opener` gives its bytes, pulling them first if need be; `origin` is a registry repository that has it.
    """

    descriptor: Descriptor
    opener: Callable[[], IO[bytes]]
    origin: Reference | None = None


class Saved(NamedTuple):
    """What a save did: layers sent, and layers that were there already."""

    sent: int
    present: int


class Backend(Protocol):
    """One shared cache. Called from several threads; whatever it raises costs a warning and a rebuild."""

    @property
    def reference(self) -> Reference | None:
        """The registry repository that the layers are in; None where they are kept elsewhere."""

    def load(self) -> CacheDocument | None:
        """All records, in as few round trips as can be; None where there is no such cache yet."""

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        """Bring one layer into `blobs`, digest and size checked."""

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        """Put the layers that are missing, then the records: a reader sees the old cache or the new one."""

    def close(self) -> None:
        """Nothing more will be asked."""


class Services(NamedTuple):
    """What a backend may use: `registry` makes a client for registries that gives up early."""

    registry: Callable[[], Registry]


Factory = Callable[[CacheSpec, Services], Backend]


def backend_for(spec: CacheSpec, services: Services) -> Backend:
    """The cache that `spec` names; raises `UsageError` where what it needs is not installed."""
    backend = _backend(spec, services)
    # one that reads the records of several refs has each of them signed
    return backend if spec.kind == "gha" else with_signature(backend, spec)


def with_signature(backend: Backend, spec: CacheSpec) -> Backend:
    """`backend` as it is, or what signs and verifies its records where `spec` has keys."""
    if spec.sign_key or spec.verify_key:
        return cast(Backend, import_module("minibuild.cache.signing").SignedCache(backend, spec))
    return backend


def _backend(spec: CacheSpec, services: Services) -> Backend:
    if spec.factory is not None:
        return cast(Factory, spec.factory)(spec, services)
    module = _BUILT_IN.get(spec.kind)
    if module is not None:
        factory = cast(Factory, import_module(module).open_cache)
        return factory(spec, services)
    from minibuild.entrypoints import CACHE_BACKENDS, load

    found: Factory | None = load(CACHE_BACKENDS, spec.kind)
    if found is not None:
        return found(spec, services)
    raise UsageError(f"there is no cache type {spec.kind!r}", cure="Install the package that brings it.")
