"""Deletions, as layers and as overlay file systems write them.

In a layer (OCI image specification, layer.md, Whiteouts) ``.wh.NAME`` hides NAME of the layers below
and ``.wh..wh..opq`` everything its folder holds there. In an overlay's upper directory (kernel,
filesystems/overlayfs) a character device 0:0 does the first, an attribute of the folder the second.
"""

from __future__ import annotations

from typing import Final

from minibuild.layers.entry import Entry, Kind

PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
OVERLAY_XATTRS: Final = (b"user.overlay.", b"trusted.overlay.")
OVERLAY_OPAQUE: Final = (b"user.overlay.opaque", b"trusted.overlay.opaque")


def whiteout(path: bytes) -> Entry:
    """The entry that hides `path`. Nobody owns it and its time is the epoch, as with containerd."""
    folder, slash, name = path.rpartition(b"/")
    return Entry(folder + slash + PREFIX + name, Kind.FILE, 0)


def opaque(folder: bytes) -> Entry:
    """The entry that hides what lower layers hold in `folder`."""
    return Entry(folder + b"/" + OPAQUE if folder else OPAQUE, Kind.FILE, 0)
