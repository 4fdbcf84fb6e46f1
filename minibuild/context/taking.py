"""The content digest of a selection whose rows come one by one; few of them are held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from minibuild.context.content import Content
from minibuild.context.digests import FileDigests, hash_files, racy
from minibuild.context.rows import Head, Row
from minibuild.context.survey import Survey
from minibuild.layers.entry import Kind

AT_ONCE = 1_000
"""Rows that are held until they are taken in together."""
_FILE = Kind.FILE  # a member read from its class is slow


class Taking:
    """The digest of what `survey` finds, called `selection`, its listing, and what was learned of its files.

    Without `modes` those do not enter, as they will all be set to one.
    """

    def __init__(self, digests: FileDigests, survey: Survey, selection: str, *, modes: bool) -> None:
        self._digests = digests
        self._survey = survey
        self._selection = selection
        self._content = Content(modes=modes)
        self._items: list[Head | Row] = []
        self._found: list[str] = []
        self._newest = 0

    def add(self, item: Head | Row, digest: str = "") -> None:
        """The next head or row; a file that comes without its SHA-256 (hex) is looked up, or read."""
        self._items.append(item)
        self._found.append(digest)
        if len(self._items) >= AT_ONCE:
            self._flush()

    def look(self, items: Sequence[Head | Row]) -> None:
        """The next of them, files all without their SHA-256: best `AT_ONCE`."""
        self._flush()
        self._take(items, [""] * len(items))

    def _flush(self) -> None:
        """Take in what waits."""
        items, digests = self._items, self._found
        self._items, self._found = [], []
        self._take(items, digests)

    def _take(self, items: Sequence[Head | Row], digests: list[str]) -> None:
        self._look_up(items, digests)
        self._content.take(items, digests)
        for item in items:
            if isinstance(item, Row) and item.newest > self._newest:
                self._newest = item.newest

    def _look_up(self, items: Sequence[Head | Row], digests: list[str]) -> None:
        """Put the digests of files that are missing into `digests`, and remember what is new."""
        asked: list[int] = []
        learned: list[int] = []
        for number, item in enumerate(items):
            if isinstance(item, Row) and item.entry.kind is _FILE:
                (learned if digests[number] else asked).append(number)
        rows = cast("Sequence[Row]", items)  # wherever one of these numbers is
        if asked:
            found = self._digests.hashed([rows[number] for number in asked])
            unknown = [number for number, known in zip(asked, found, strict=True) if known is None]
            for number, known in zip(asked, found, strict=True):
                digests[number] = known or ""
            if unknown:
                hashed = hash_files([rows[number] for number in unknown])
                for number, digest in zip(unknown, hashed, strict=True):
                    digests[number] = digest
                learned += unknown
        began = self._survey.began
        for number in learned:
            if not racy(rows[number].newest, began):
                self._digests.note(rows[number], digests[number])

    def done(self) -> str:
        """The content digest; what was learned is kept."""
        self._flush()
        content, listing = self._content.done()
        self._digests.keep_listing(content, listing)
        if not racy(self._newest, self._survey.began):
            self._digests.remember(self._selection, self._survey.stamp(), content)
        self._digests.rest()
        return content
