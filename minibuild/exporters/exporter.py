"""What writes an image somewhere. Others can add theirs by entry points: ``minibuild.exporters``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

from minibuild.exporters.image import BlobSource, ExportResult, Image
from minibuild.oci.reference import Reference
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.exporters.annotations import Annotation
    from minibuild.registry.client import Registry


class ExportServices(NamedTuple):
    """What an exporter may use.

    `blobs` has the layers; `names` and `annotations` are those of the build; `stdout` is there for an
    output that goes to standard output; `registry` makes the client for registries when it is called.
    """

    store: Store
    blobs: BlobSource
    names: tuple[Reference, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    stdout: BinaryIO | None = None
    registry: Callable[[], Registry] | None = None


class Exporter(Protocol):
    """One output of one build."""

    def export(self, images: Sequence[Image], services: ExportServices) -> ExportResult:
        """Write `images`, one for each platform: all of it or nothing.

        The same images give the same bytes, whatever the clock says. What was written before stays as it
        was until what takes its place is whole. Raises a `MinibuildError`, mostly `OutputError` with a cure.
        """


Factory = Callable[[Mapping[str, str]], Exporter]
"""Makes the exporter for the ``KEY=VALUE`` pairs behind ``type=NAME``; raises `UsageError` for wrong ones."""
