"""A filesystem as a stack of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minibuild_store.digest import Digest
from minibuild_store.shorthash import sha256

from minibuild.errors import LayerError
from minibuild.oci.image import Layer as Layer
from minibuild.oci.image import ResolvedImage
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    from minibuild.layers.tree import Tree


class Seen:
    """What was found out about the lowest layers, so that one more on top costs no look at all of them.

    `known` is the merged tree of so many of them, once one was asked for; the indexes of the lowest `fetched`
    need not be fetched.
    """

    __slots__ = ("fetched", "known")

    def __init__(self, known: tuple[Tree, int] | None = None, fetched: int = 0) -> None:
        self.known = known
        self.fetched = fetched


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Layers, lowest first. `chain` is the chain ID (image-spec, config.md), "" for nothing."""

    layers: tuple[Layer, ...] = ()
    chain: str = ""
    seen: Seen = field(default_factory=Seen, compare=False, repr=False)

    def extended(self, layer: Layer) -> Filesystem:
        seen = Seen(self.seen.known, self.seen.fetched)
        return Filesystem((*self.layers, layer), chain_of(self.chain, layer.diff_id), seen)


def chain_of(parent: str, diff_id: Digest) -> str:
    """The chain ID of a layer on `parent` (a chain ID or "")."""
    if not parent:
        return str(diff_id)
    return "sha256:" + sha256(f"{parent} {diff_id}".encode()).hexdigest()


def image_filesystem(image: ResolvedImage) -> Filesystem:
    """The layers of a resolved image, by its configuration's diff IDs."""
    diff_ids = image.config.diff_ids
    if len(diff_ids) != len(image.layers):
        raise LayerError(
            f"{image.name}: {len(image.layers)} layers in the manifest, {len(diff_ids)} in the configuration",
            cure="The image is damaged; push it again.",
        )
    filesystem = Filesystem()
    for diff_id, descriptor in zip(diff_ids, image.layers, strict=True):
        filesystem = filesystem.extended(Layer(diff_id, descriptor))
    return filesystem
