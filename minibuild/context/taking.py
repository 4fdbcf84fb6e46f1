"""The content digest of a folder whose files are hashed one by one, without holding its rows."""

from __future__ import annotations

import hashlib
import time
import zlib

from minibuild.context.digests import FileDigests, content_head, content_line, listing_line
from minibuild.context.rows import Row
from minibuild.context.stamps import Stamp, Stamping


class Taking:
    """What `FileDigests.digest` does for one match called `name`, row by row."""

    def __init__(self, digests: FileDigests, selection: str, name: bytes, *, modes: bool) -> None:
        self._digests = digests
        self._selection = selection
        self._name = name
        self._modes = modes
        self._now = time.time_ns()
        self._stamping = Stamping(name)
        self._content = hashlib.sha256(content_head(name))
        self._listing = zlib.compressobj(1)
        self._listed: list[bytes] = []
        self._first = True
        self._inodes: dict[bytes, bytes] = {}

    def add(self, row: Row, digest: str, *, new: bool = True) -> None:
        """The next row, with the SHA-256 (hex) of a regular file; a `new` one is to be remembered."""
        self._stamping.add(row)
        self._content.update(content_line(row, digest, self._inodes, modes=self._modes))
        line = listing_line(self._name, row, digest)
        if packed := self._listing.compress(line if self._first else b"\n" + line):
            self._listed.append(packed)
        self._first = False
        if digest and new:
            self._digests.note(row, digest, self._now)

    def done(self) -> str:
        """The content digest; what was learned is kept."""
        content = self._content.hexdigest()
        self._digests.keep_listing(content, b"".join(self._listed) + self._listing.flush())
        self._digests.remember(self._selection, self.stamp, self._now, content)
        return content

    @property
    def stamp(self) -> Stamp:
        """The stamp of the rows so far."""
        return self._stamping.done()
