"""Make every layer local before a byte of the output is written."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from minibuild_store.digest import Digest

from minibuild.exporters.image import BlobSource
from minibuild.exporters.target import check_size
from minibuild.oci.descriptor import Descriptor

_PULLS = 4


def local_files(layers: Sequence[Descriptor], blobs: BlobSource) -> dict[Digest, Path]:
    """The file of each layer, its size checked; layers that a registry holds are asked for at once.

    Raises what `BlobSource.path` raises, and `BlobDamaged` for a file of another size.
    """
    remote = [layer for layer in layers if blobs.origin(layer) is not None]
    found = _together(remote, blobs) if len(remote) > 1 else {}
    for layer in layers:
        if layer.digest not in found:
            found[layer.digest] = blobs.path(layer)
        check_size(layer, os.stat(found[layer.digest]).st_size)
    return found


def _together(layers: Sequence[Descriptor], blobs: BlobSource) -> dict[Digest, Path]:
    from minibuild.registry.parallel import Job, run_all, stop_if

    found: dict[Digest, Path] = {}

    def job(layer: Descriptor) -> Job:
        def run(stop: threading.Event) -> None:
            stop_if(stop)
            found[layer.digest] = blobs.path(layer)

        return run

    run_all([job(layer) for layer in layers], _PULLS)
    return found
