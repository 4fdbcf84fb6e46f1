"""Many layers in one folder, for an overlay that could not take each of them; the image keeps its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minibuild_store.store import Store

from minibuild.layers.merge import MergeLayer
from minibuild.layers.squash import squash
from minibuild.sandbox.client import Sandbox


def flat_folder(name: str, layers: Sequence[MergeLayer], *, store: Store, sandbox: Sandbox) -> Path:
    """The snapshot `name` of what `layers`, lowest first, come to; made anew. Raises `LayerError`.

    Its root has no owner and mode of its own: the layers above give those.
    """
    from minibuild.layers.compress import Compression
    from minibuild.layers.writer import LayerWriter

    form = sandbox.form
    with store.snapshots.workspace(remove=sandbox.remove) as work:
        blob = work / "flat.tar"
        with blob.open("wb") as file, LayerWriter(file.fileno(), Compression("uncompressed", None)) as writer:
            squash((), layers, writer, work / "content")
            result = writer.close()
        target = work / "made"
        sandbox.unpack(blob, result.media_type, form.make(target), result.diff_id)
        blob.unlink()
        return form.root(store.snapshots.commit(target, form.name(name)))
