"""Layers that leave parent folders out, as some builders write them.

Unpacked, such a layer has plain parents (0755, root), which in an overlay would cover the real ones of
a layer below. A folder of the right ones, mounted just above the layer, puts that right.
"""

from __future__ import annotations

from pathlib import Path

from minibuild_store.store import Store

from minibuild.layers.index import LayerIndex
from minibuild.layers.tree import Tree
from minibuild.sandbox.client import Sandbox


def leaves_parents_out(index: LayerIndex) -> bool:
    """Whether some entry's parent folder has no entry of its own."""
    paths = set(index.paths)
    return any(parent and parent not in paths for parent in {path.rpartition(b"/")[0] for path in paths})


def parents_folder(name: str, tree: Tree, *, store: Store, sandbox: Sandbox) -> Path | None:
    """The snapshot `name` of the folders that `tree` shows and an overlay of its layers would not."""
    from minibuild.layers.compress import Compression
    from minibuild.layers.writer import LayerWriter

    folder = store.snapshots.path(name)
    entries = tree.repairs()
    if folder is not None or not entries:
        return folder
    with store.snapshots.workspace(remove=sandbox.remove) as work:
        blob = work / "parents.tar"
        with blob.open("wb") as file, LayerWriter(file.fileno(), Compression("uncompressed", None)) as writer:
            for entry in entries:
                writer.add(entry)
            result = writer.close()
        target = work / "root"
        target.mkdir(mode=0o755)
        sandbox.unpack(blob, result.media_type, target, result.diff_id)
        return store.snapshots.commit(target, name)
