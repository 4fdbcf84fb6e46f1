"""An image whose documents are known; its layers may still be in a registry."""

from __future__ import annotations

from minibuild_store.digest import Digest

from minibuild.oci.config import ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.values import NamedTuple, dataclass, field


class Layer(NamedTuple):
    """A layer's content and the blob that holds it."""

    diff_id: Digest
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """A base image pinned: its manifest's `digest`, its config, its layers' descriptors (lowest first).

    `name` is what the Dockerfile or the user wrote. `origin` is where blobs can be fetched from:
    a registry repository, or None where every blob is already in the store.
    """

    name: str
    digest: Digest
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    origin: Reference | None = field(default=None, compare=False)
