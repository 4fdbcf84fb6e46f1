"""Where the content of a name may be had: the mirrors of its registry in order, then the registry itself."""

from __future__ import annotations

from minibuild.oci.reference import DEFAULT_REGISTRY, Reference
from minibuild.registry.options import RegistryOptions
from minibuild.registry.proxy import is_loopback
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A repository at a registry that is really asked; `base` is ``scheme://host[:port]``."""

    registry: str
    repository: str
    base: str

    def url(self, path: str) -> str:
        """The URL of `path` in this repository, such as ``manifests/latest``."""
        return f"{self.base}/v2/{self.repository}/{path}"

    def reference(self, ref: Reference) -> Reference:
        """`ref` as it is called here."""
        return Reference(self.registry, self.repository, ref.tag, ref.digest)


def places(ref: Reference, options: RegistryOptions) -> tuple[Place, ...]:
    """Where to ask for `ref`, in order; never empty."""
    host = options.host(ref.registry)
    found = [
        place(
            mirror.registry, f"{mirror.prefix}/{ref.repository}" if mirror.prefix else ref.repository, options
        )
        for mirror in host.mirrors
    ]
    if host.fallback or not found:
        found.append(origin(ref, options))
    return tuple(dict.fromkeys(found))


def origin(ref: Reference, options: RegistryOptions) -> Place:
    """The registry that `ref` names, where pushes go."""
    return place(ref.registry, ref.repository, options)


def place(registry: str, repository: str, options: RegistryOptions) -> Place:
    host = "registry-1.docker.io" if registry == DEFAULT_REGISTRY else registry
    return Place(registry, repository, f"{'http' if is_plain(registry, options) else 'https'}://{host}")


def is_plain(registry: str, options: RegistryOptions) -> bool:
    """Whether `registry` is spoken to without TLS: as set, else on loopback only."""
    chosen = options.host(registry)
    if chosen.insecure is not None:
        return chosen.insecure
    if chosen.ca or chosen.cert or not chosen.verify:
        return False
    return is_loopback(registry[: registry.find("]") + 1] if "]" in registry else registry.partition(":")[0])
