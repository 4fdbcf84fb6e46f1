"""What an exporter is given and what it gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from minibuild_store.digest import Digest

from minibuild.oci.config import ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer: its content (`diff_id`) and the blob that holds it.

    `descriptor` is as held in the store or as the base image's registry names it. `base` says that
    the layer came with the base image: its blob is kept as it is unless compression is forced.
    """

    diff_id: Digest
    descriptor: Descriptor
    base: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform: its complete configuration and its layers, lowest first."""

    config: ImageConfig
    layers: tuple[ImageLayer, ...]


class BlobSource(Protocol):
    """Where layer blobs come from; both methods are called from several threads."""

    def path(self, descriptor: Descriptor) -> Path:
        """The blob as a local file, pulled and verified first if it was not here yet."""

    def origin(self, descriptor: Descriptor) -> Reference | None:
        """A registry repository known to hold the blob, so that a push can mount it from there."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written: `descriptor` of the manifest or index, None where the output is no image.

    `dest` is the path written, ``-`` for a stream, empty for a push; `config` the configuration's
    digest (the image ID of Docker), None for an index. `left_out` are paths that this user could
    not make in a folder of files: device nodes.
    """

    kind: str
    descriptor: Descriptor | None = None
    config: Digest | None = None
    dest: str = ""
    names: tuple[Reference, ...] = ()
    left_out: tuple[str, ...] = ()
