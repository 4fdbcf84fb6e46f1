"""What a COPY takes: matches of its patterns, each a list of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from minibuild.layers.entry import Entry
from minibuild.values import NamedTuple


class Row(NamedTuple):
    """A path below a match: `entry.path` is relative to the match (``b""`` is the match itself).

    `where` names the content of a regular file to whoever gave the row (for a folder: the path to open).
    `stamp` changes whenever the file may have changed since (size, times, inode); empty for known content.
    Rows of one match that share a non-empty `inode` are names of one file (hard links). `leads` says that
    the folder was not selected itself, and only leads to something that was. `newest` is the later of the
    two times (ns) in the stamp of a regular file.
    """

    entry: Entry
    where: bytes
    stamp: bytes = b""
    inode: bytes = b""
    leads: bool = False
    newest: int = 0


class Match(NamedTuple):
    """A path that a pattern selected. `name` is what it is called in a destination folder.

    `whole` says that it is the root of what is copied from, whose own time is nobody's.
    """

    name: bytes
    rows: list[Row]
    whole: bool = False

    @property
    def is_dir(self) -> bool:
        return self.rows[0].entry.kind == "5"


class Head(NamedTuple):
    """A match whose rows come one by one, its own first; otherwise as `Match`."""

    name: bytes
    whole: bool


class View(Protocol):
    """A tree of files to copy from. Paths are as in `Entry.path`; nothing outside the root is reached."""

    def resolve(self, path: bytes) -> bytes:
        """`path` with every symlink followed, the last one included."""

    def entry(self, path: bytes) -> Entry | None:
        """The entry at `path` (no symlink followed), or None."""

    def names(self, path: bytes) -> list[bytes]:
        """Names in the folder at `path`, sorted bytewise."""

    def walk(self, path: bytes) -> Iterator[Row]:
        """`path` itself, then everything below it, parents first, siblings sorted bytewise."""
