"""Where the entries of one layer come to lie: the shape of a layer while its archive goes by.

An archive may name a path through a symbolic link, leave parents out, or name a path twice with
different types. `Layout` settles all that in memory, by the rules containerd's unpacking follows, so
that whoever writes to a disk or keeps an index meets only real paths:

- a parent that is a symbolic link is followed inside the layer's root; ``..`` at the root stays there
- missing parents are made, as directories
- a later entry replaces an earlier one; only a directory over a directory is merged
- a hard link's target must be a non-directory of this layer
- ``.wh.NAME`` hides NAME of the layers below (not of this one), ``.wh..wh..opq`` all that its
  directory holds there (image-spec, layer.md, "Whiteouts"); a device 0:0 is a whiteout to overlayfs,
  so it is one here

Attributes by which overlayfs is steered never come from an archive.
"""

from __future__ import annotations

from itertools import chain
from typing import Protocol

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarformat import PATH_MAX, show
from minibuild.layers.whiteout import OPAQUE, OVERLAY_XATTRS, PREFIX

_META = b".wh..wh."  # aufs kept its own records under such names
_LINKS_MAX = 40  # as in the kernel (path_resolution(7))
# a member read from its class is slow
_FILE = Kind.FILE
_DIR = Kind.DIR
_HARDLINK = Kind.HARDLINK
_SYMLINK = Kind.SYMLINK
_CHAR = Kind.CHAR
_STEERING = (b"trusted.", b"user.minibuild.", *OVERLAY_XATTRS)


class Effects(Protocol):
    """What a `Layout` asks of a disk, in order, before `place` returns."""

    def add_folder(self, path: bytes) -> None:
        """A parent that the archive leaves out."""

    def add_whiteout(self, path: bytes) -> None:
        """A whiteout of `path`, where this layer has nothing."""

    def remove(self, path: bytes, folder: bool) -> None:
        """What was placed at `path`; a folder is empty by now."""


class Layout:
    """The state of one layer; feed entries in archive order to `place`.

    `folders` are the directories, `others` all other paths, each with what counts of it: the target of
    a symbolic link as bytes, else its kind, a hard link like its file but for one to a regular file;
    None is a whiteout. `opaque` are the directories that show nothing of the layers below, `hidden` the
    paths that whiteouts name.
    """

    __slots__ = ("_children", "_effects", "folders", "hidden", "opaque", "others")

    def __init__(self, effects: Effects | None = None) -> None:
        self.folders: set[bytes] = {b""}
        self.others: dict[bytes, bytes | Kind | None] = {}
        self.opaque: set[bytes] = set()
        self.hidden: set[bytes] = set()
        self._children: dict[bytes, set[bytes]] | None = None  # by folder, once a folder was removed
        self._effects = effects

    def place(self, entry: Entry) -> Entry | None:
        """`entry` at its real path, with its hard link target real too; None where it is to be ignored.

        A whiteout stays in its archive form, as an empty file. Raises `LayerError`.
        """
        path = entry.path
        if not path:
            return entry if entry.kind is Kind.DIR else None
        if PREFIX in path and (marked := self._marked(entry)) is not entry:
            return marked
        if path.rpartition(b"/")[0] not in self.folders:
            path = self._under_parent(path)
            entry = entry._replace(path=path)
        if entry.xattrs:
            entry = entry._replace(xattrs=tuple(x for x in entry.xattrs if not x[0].startswith(_STEERING)))
        kind = entry.kind
        if kind is _HARDLINK:
            entry = self._linked(entry)
        elif kind is _CHAR and entry.device == (0, 0):
            return self._hide(entry, path)
        if path in self.others or path in self.folders:
            self._make_room(path, kind)
        self._add(path, kind if kind is _FILE or kind is _DIR else self._counts(entry))
        if kind is _DIR and path in self.hidden:
            self.opaque.add(path)
        return entry

    def holds_file(self, path: bytes) -> bool:
        """Whether the entry at `path` is a regular file itself, not a hard link to one."""
        return self.others.get(path) is Kind.FILE

    def _counts(self, entry: Entry) -> bytes | Kind:
        """What `others` has for `entry`."""
        if entry.kind is _SYMLINK:
            return entry.link
        if entry.kind is not _HARDLINK:
            return entry.kind
        target = self.others.get(entry.link)
        if target is None:
            raise _no_target(entry)
        return _HARDLINK if target is _FILE else target

    def _add(self, path: bytes, counts: bytes | Kind | None) -> None:
        """Note that there is something at `path`: a directory, or what `others` is to say of it."""
        if counts is _DIR:
            self.folders.add(path)
        else:
            self.others[path] = counts
        if self._children is not None:
            self._children.setdefault(path.rpartition(b"/")[0], set()).add(path)

    # -- whiteouts

    def _marked(self, entry: Entry) -> Entry | None:
        """The whiteout that `entry` stands for, or `entry` itself if its name only looks like one."""
        folder, _, name = entry.path.rpartition(b"/")
        for part in folder.split(b"/"):
            if part.startswith(_META):
                return None
            if part.startswith(PREFIX):
                raise LayerError(f"the layer's entry {show(entry.path)} lies under a whiteout")
        if name == OPAQUE:
            path = self._under_parent(entry.path)
            self.opaque.add(path.rpartition(b"/")[0])
            return Entry(path, Kind.FILE, 0, mtime_ns=entry.mtime_ns)
        if name.startswith(_META):
            return None
        if not name.startswith(PREFIX):
            return entry
        hidden = name[len(PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise LayerError(f"the layer's entry {show(entry.path)} is a whiteout of nothing")
        return self._hide(entry, self._under_parent(folder + b"/" + hidden if folder else hidden))

    def _hide(self, entry: Entry, path: bytes) -> Entry:
        folder, _, name = path.rpartition(b"/")
        if path in self.folders:
            self.opaque.add(path)
        elif path not in self.others:
            if self._effects is not None:
                self._effects.add_whiteout(path)
            self._add(path, None)
        self.hidden.add(path)
        mark = PREFIX + name
        return Entry(folder + b"/" + mark if folder else mark, Kind.FILE, 0, mtime_ns=entry.mtime_ns)

    # -- parents and links

    def _real(self, path: bytes, whole: bytes) -> bytes:
        """The directory `path` with every symbolic link followed; it need not exist yet."""
        at = b""
        parts = path.split(b"/")[::-1]
        links = 0
        while parts:
            part = parts.pop()
            if part == b"..":
                at = at.rpartition(b"/")[0]
            if part in (b"", b".", b".."):
                continue
            at = at + b"/" + part if at else part
            below = self.others.get(at)
            if below is None:
                continue
            if isinstance(below, Kind):
                raise LayerError(
                    f"the layer's entry {show(whole)} lies under {show(at)}, which is no directory"
                )
            links += 1
            if links > _LINKS_MAX:
                raise LayerError(f"the layer's entry {show(whole)} lies under a loop of symbolic links")
            at = b"" if below.startswith(b"/") else at.rpartition(b"/")[0]
            parts += below.split(b"/")[::-1]
        if len(at) >= PATH_MAX:
            raise LayerError(f"the layer's entry {show(whole)} has a name longer than {PATH_MAX} bytes")
        return at

    def _under_parent(self, path: bytes) -> bytes:
        """`path` with its parent real and existing."""
        parent, _, name = path.rpartition(b"/")
        if parent not in self.folders:
            parent = self._real(parent, path)
            if parent not in self.folders:
                self._add_folders(parent)
        return parent + b"/" + name if parent else name

    def _add_folders(self, path: bytes) -> None:
        missing = []
        while path not in self.folders:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for folder in reversed(missing):
            if folder in self.others:
                self._make_room(folder, Kind.DIR)
                self.opaque.add(folder)
            if self._effects is not None:
                self._effects.add_folder(folder)
            self._add(folder, _DIR)

    def _linked(self, entry: Entry) -> Entry:
        parent, _, name = entry.link.rpartition(b"/")
        if parent not in self.folders:
            parent = self._real(parent, entry.path)
        target = parent + b"/" + name if parent else name
        if target == entry.path or self.others.get(target) is None:
            raise _no_target(entry)
        return entry if target == entry.link else entry._replace(link=target)

    def _make_room(self, path: bytes, kind: Kind) -> None:
        """Remove what lies at `path`, unless both it and the new entry are directories."""
        if path in self.folders:
            if kind is not _DIR:
                self._remove_folder(path)
        else:
            self._forget(path, folder=False)

    def _remove_folder(self, path: bytes) -> None:
        if self._children is None:
            self._children = {}
            for child in chain(self.folders - {b""}, self.others):
                self._children.setdefault(child.rpartition(b"/")[0], set()).add(child)
        found = [path]
        for folder in found:  # grows: breadth first, so its reverse is children first
            found += [child for child in self._children.get(folder, ()) if child in self.folders]
        self.hidden.difference_update(found[1:])
        for folder in reversed(found):
            for child in sorted(self._children.get(folder, ())):
                self._forget(child, folder=False)
                self.hidden.discard(child)
            self._forget(folder, folder=True)

    def _forget(self, path: bytes, folder: bool) -> None:
        if self._effects is not None:
            self._effects.remove(path, folder)
        if folder:
            self.folders.discard(path)
            self.opaque.discard(path)
        else:
            del self.others[path]
        if self._children is not None:
            self._children.pop(path, None)
            self._children.get(path.rpartition(b"/")[0], set()).discard(path)


def is_row(entry: Entry) -> bool:
    """Whether `place` would not ignore `entry`, a member of a layer that is known to be good."""
    path = entry.path
    if not path:
        return entry.kind is _DIR
    if _META not in path:
        return True
    *folders, name = path.split(b"/")
    return not any(part.startswith(_META) for part in folders) and (
        name == OPAQUE or not name.startswith(_META)
    )


def _no_target(entry: Entry) -> LayerError:
    return LayerError(
        f"the layer's entry {show(entry.path)} is a hard link to {show(entry.link)}, "
        "which is no file of this layer"
    )
