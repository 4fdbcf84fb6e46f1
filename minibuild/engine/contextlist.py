"""What of a build context a build can see, and which ignore line decided about the rest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from minibuild_store.store import Store

from minibuild.dockerfile.ignorefile import IgnoreFile, IgnoreLine
from minibuild.engine.inputs import Inputs, read_context
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextTree
from minibuild.errors import UsageError
from minibuild.events import EventSink, silent
from minibuild.layers.entry import Kind
from minibuild.values import NamedTuple

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}
_KINDS = {
    Kind.FILE: "file",
    Kind.HARDLINK: "file",
    Kind.DIR: "folder",
    Kind.SYMLINK: "link",
    Kind.FIFO: "fifo",
}


class ListedPath(NamedTuple):
    """A path of the context. `line` is the ignore line that decided about it, None where none speaks of it.

    An ignored folder stands for all below it, whose `size` (bytes) is then the sum of theirs.
    """

    path: str
    type: str
    size: int
    ignored: bool = False
    line: IgnoreLine | None = None


class ContextList(NamedTuple):
    """`ignore_file` is its name, "" without one."""

    ignore_file: str
    paths: list[ListedPath]

    @property
    def seen(self) -> list[ListedPath]:
        return [path for path in self.paths if not path.ignored]

    @property
    def ignored(self) -> list[ListedPath]:
        return [path for path in self.paths if path.ignored]


def list_context(request: BuildRequest, *, store: Store, sink: EventSink = silent) -> ContextList:
    """The context of `request`; one that is elsewhere is fetched. Raises a `MinibuildError`."""
    with Session(store, request, sink) as session:
        inputs = read_context(session)
        if inputs.tree is not None:
            files = ContextTree(inputs.tree, session.layers, session.store)
            rows = (row.entry for row in files.view.walk(b"") if row.entry.path)
            paths = [
                ListedPath(os.fsdecode(row.path), _KINDS.get(row.kind, "device"), row.size) for row in rows
            ]
            return ContextList("", paths)
        return _listed(inputs)


def _listed(inputs: Inputs) -> ContextList:
    if inputs.folder is None:
        raise UsageError("there is no context to list", cure="Name a folder, an archive or an address.")
    ignore = inputs.ignore.copy() if inputs.ignore is not None else None
    paths = list(_walk(inputs.folder, "", ignore))
    return ContextList(ignore.name if ignore is not None else "", paths)


def _walk(root: Path, prefix: str, ignore: IgnoreFile | None) -> Iterator[ListedPath]:
    """Everything below `prefix`; a folder that is ignored whole is one row."""
    try:
        names = sorted(os.listdir(os.fsencode(root / prefix)))
    except OSError as error:
        raise UsageError(f"cannot read {root / prefix}: {error.strerror}", cure="Change its mode.") from None
    for name in names:
        path = prefix + os.fsdecode(name)
        status = os.lstat(root / path)
        kind = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
        size = status.st_size if kind == "file" else 0
        ignored, line = ignore.decision(path) if ignore is not None else (False, None)
        if kind == "socket":  # no build sees it
            continue
        if kind != "folder":
            yield ListedPath(path, kind, size, ignored, line)
            continue
        if ignored and ignore is not None and not ignore.may_contain(path):
            yield ListedPath(path, kind, _size_below(root / path), True, line)
            continue
        below = list(_walk(root, f"{path}/", ignore))
        # An ignored folder shows where something below it does.
        shows = not ignored or any(not one.ignored for one in below)
        yield ListedPath(path, kind, 0, not shows, line)
        yield from below


def _size_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(parent, name))
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
