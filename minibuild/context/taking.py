"""The content digest of a selection whose rows come one by one; few of them are held."""

from __future__ import annotations

import hashlib
import zlib

from minibuild.context.digests import (
    FileDigests,
    content_head,
    content_line,
    hash_files,
    listing_line,
    racy,
)
from minibuild.context.rows import Head, Row
from minibuild.context.survey import Survey
from minibuild.layers.entry import Kind

_AT_ONCE = 1_000  # rows that are held until they are taken in together
_FILE = Kind.FILE  # a member read from its class is slow


class Taking:
    """The digest of what `survey` finds, called `selection`, its listing, and what was learned of its files.

    Without `modes` those do not enter, as they will all be set to one.
    """

    def __init__(self, digests: FileDigests, survey: Survey, selection: str, *, modes: bool) -> None:
        self._digests = digests
        self._survey = survey
        self._selection = selection
        self._modes = modes
        self._name = b""
        self._content = hashlib.sha256()
        self._listing = zlib.compressobj(1)
        self._listed: list[bytes] = []
        self._between = b""
        self._inodes: dict[bytes, bytes] = {}
        self._items: list[Head | Row] = []
        self._found: list[str] = []
        self._newest = 0

    def add(self, item: Head | Row, digest: str = "") -> None:
        """The next head or row; a file that comes without its SHA-256 (hex) is looked up, or read."""
        self._items.append(item)
        self._found.append(digest)
        if len(self._items) >= _AT_ONCE:
            self._take()

    def _take(self) -> None:
        """Take in what waits."""
        items, digests = self._items, self._found
        self._items, self._found = [], []
        self._look_up(items, digests)
        lines: list[bytes] = []
        listed: list[bytes] = []
        modes, inodes, name = self._modes, self._inodes, self._name
        for item, digest in zip(items, digests, strict=True):
            if isinstance(item, Head):
                name, inodes = item.name, {}
                lines.append(content_head(name))
                continue
            lines.append(content_line(item, digest, inodes, modes=modes))
            listed.append(listing_line(name, item, digest))
            if item.newest > self._newest:
                self._newest = item.newest
        self._inodes, self._name = inodes, name
        self._content.update(b"".join(lines))
        if listed:
            self._listed.append(self._listing.compress(self._between + b"\n".join(listed)))
            self._between = b"\n"

    def _look_up(self, items: list[Head | Row], digests: list[str]) -> None:
        """Put the digests of files that are missing into `digests`, and remember what is new."""
        files = [
            (number, item)
            for number, item in enumerate(items)
            if isinstance(item, Row) and item.entry.kind is _FILE
        ]
        asked = [(number, row) for number, row in files if not digests[number]]
        learned = [(number, row) for number, row in files if digests[number]]
        if asked:
            unknown: list[tuple[int, Row]] = []
            found = self._digests.table.known([(row.where, row.stamp) for _, row in asked])
            for (number, row), known in zip(asked, found, strict=True):
                if known is None:
                    unknown.append((number, row))
                else:
                    digests[number] = known
            for (number, _), digest in zip(unknown, hash_files([row for _, row in unknown]), strict=True):
                digests[number] = digest
            learned += unknown
        began = self._survey.began
        for number, row in learned:
            if not racy(row.newest, began):
                self._digests.note(row, digests[number])

    def done(self) -> str:
        """The content digest; what was learned is kept."""
        self._take()
        content = self._content.hexdigest()
        self._digests.keep_listing(content, b"".join(self._listed) + self._listing.flush())
        if not racy(self._newest, self._survey.began):
            self._digests.remember(self._selection, self._survey.stamp(), content)
        self._digests.rest()
        return content
