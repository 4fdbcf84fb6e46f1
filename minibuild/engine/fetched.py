"""What ADD fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

from minibuild_store.digest import Digest

from minibuild.context.folder import FolderView
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file (`path`, `name`, `size`) or a folder (`tree`). `identity` goes into the key.

    `commit_time` is when the commit of a git checkout was made, in seconds; `blob` what a file is in
    the store, to be checked before it is read.
    """

    identity: str
    path: Path = Path()
    name: str = ""
    size: int = 0
    mtime_ns: int = 0
    unpack: bool = False
    tree: FolderView | None = None
    commit_time: int | None = None
    blob: Digest | None = None
