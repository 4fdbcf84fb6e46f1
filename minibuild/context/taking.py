"""The content digest of a folder whose files are hashed one by one, without holding its rows."""

from __future__ import annotations

import hashlib
import time
import zlib

from minibuild.context.digests import FileDigests, content_head, content_line, listing_line
from minibuild.context.rows import Row
from minibuild.context.stamps import Stamp, Stamping

_AT_ONCE = 200  # rows that are held until they are taken in together


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
        self._between = b""
        self._inodes: dict[bytes, bytes] = {}
        self._waiting: list[tuple[Row, str, bool]] = []

    def add(self, row: Row, digest: str, *, new: bool = True) -> None:
        """The next row, with the SHA-256 (hex) of a regular file; a `new` one is to be remembered."""
        self._waiting.append((row, digest, new))
        if len(self._waiting) == _AT_ONCE:
            self._take()

    def _take(self) -> None:
        """Take in the rows that wait."""
        waiting, name, inodes, modes = self._waiting, self._name, self._inodes, self._modes
        self._stamping.add(*[row for row, _, _ in waiting])
        self._content.update(
            b"".join([content_line(row, digest, inodes, modes=modes) for row, digest, _ in waiting])
        )
        lines = b"\n".join([listing_line(name, row, digest) for row, digest, _ in waiting])
        self._listed.append(self._listing.compress(self._between + lines))
        self._between = b"\n"
        for row, digest, new in waiting:
            if digest and new:
                self._digests.note(row, digest, self._now)
        waiting.clear()

    def done(self) -> str:
        """The content digest; what was learned is kept."""
        if self._waiting:
            self._take()
        content = self._content.hexdigest()
        self._digests.keep_listing(content, b"".join(self._listed) + self._listing.flush())
        self._digests.remember(self._selection, self.stamp, self._now, content)
        return content

    @property
    def stamp(self) -> Stamp:
        """The stamp of all rows, once they are `done`."""
        return self._stamping.done()
