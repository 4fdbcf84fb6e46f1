"""The content digest of a selection, and its listing, made of rows that come one by one."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

from minibuild.context.digests import content_head, content_line, listing_line
from minibuild.context.rows import Head, Row
from minibuild.layers.entry import Kind

_FILE = Kind.FILE  # a member read from its class is slow


class Content:
    """Takes heads, each followed by its rows.

    Without `modes` those do not enter, as they will all be set to one. With `linked` every file counts as one
    that may have several names, as all do that come out of layers; only those with an `inode` are remembered.
    """

    def __init__(self, *, modes: bool, linked: bool = False) -> None:
        self._modes = modes
        self._linked = linked
        self._name = b""
        self._total = hashlib.sha256()
        self._listing = zlib.compressobj(1)
        self._listed: list[bytes] = []
        self._between = b""
        self._inodes: dict[bytes, bytes] = {}

    def take(self, items: Sequence[Head | Row], digests: Sequence[str]) -> None:
        """The next items, with the SHA-256 (hex) of each that is a file: best a thousand."""
        lines: list[bytes] = []
        listed: list[bytes] = []
        modes, linked, inodes, name = self._modes, self._linked, self._inodes, self._name
        for item, digest in zip(items, digests, strict=True):
            if isinstance(item, Head):
                name, inodes = item.name, {}
                lines.append(content_head(name))
                continue
            same: bytes | None = None
            if item.inode:
                same = inodes.setdefault(item.inode, item.entry.path)
            elif linked and item.entry.kind is _FILE:
                same = item.entry.path
            lines.append(content_line(item, digest, same, modes=modes))
            listed.append(listing_line(name, item, digest))
        self._inodes, self._name = inodes, name
        self._total.update(b"".join(lines))
        if listed:
            self._listed.append(self._listing.compress(self._between + b"\n".join(listed)))
            self._between = b"\n"

    def done(self) -> tuple[str, bytes]:
        """The content digest (hex), and what stands behind it, a line a path (zlib-compressed)."""
        return self._total.hexdigest(), b"".join(self._listed) + self._listing.flush()
