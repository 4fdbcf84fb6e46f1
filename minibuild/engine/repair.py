"""Layers of other builders that an overlay of unpacked layers would show wrongly.

A layer that leaves parent folders out has plain ones (0755, root) once unpacked, which would cover the
real ones of a layer below: a folder of the right ones, mounted just above the layer, puts that right.
A layer whose root is opaque hides all below it, which overlayfs does not know: those are not mounted.
"""

from __future__ import annotations

from pathlib import Path

from minibuild_store.store import Store

from minibuild.layers.index import LayerIndex
from minibuild.layers.tree import Tree
from minibuild.layers.whiteout import opaque
from minibuild.sandbox.client import Sandbox

LEAVES_PARENTS_OUT = b"leaves parents out"
HIDES_ALL = b"hides all below"


def trait_of(index: LayerIndex) -> bytes:
    """What a mount of the layer has to heed, b"" for nothing; a layer that hides all needs no parents."""
    if opaque(b"").path in index.paths:
        return HIDES_ALL
    parents = {path.rpartition(b"/")[0] for path in index.paths}
    parents.difference_update(index.paths, (b"",))
    return LEAVES_PARENTS_OUT if parents else b""


def parents_folder(name: str, tree: Tree, *, store: Store, sandbox: Sandbox) -> Path | None:
    """The snapshot `name` of the folders that `tree` shows and an overlay of its layers would not."""
    from minibuild.layers.compress import Compression
    from minibuild.layers.writer import LayerWriter

    form = sandbox.form
    folder = store.snapshots.path(form.name(name))
    if folder is not None:
        return form.root(folder)
    entries = tree.repairs()
    if not entries:
        return None
    with store.snapshots.workspace(remove=sandbox.remove) as work:
        blob = work / "parents.tar"
        with blob.open("wb") as file, LayerWriter(file.fileno(), Compression("uncompressed", None)) as writer:
            for entry in entries:
                writer.add(entry)
            result = writer.close()
        target = work / "made"
        sandbox.unpack(blob, result.media_type, form.make(target), result.diff_id)
        return form.root(store.snapshots.commit(target, form.name(name)))
