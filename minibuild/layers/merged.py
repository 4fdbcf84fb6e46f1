"""What can be asked of a stack of layers seen from above, however its answers are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarformat import show
from minibuild.values import NamedTuple

_LINKS_MAX = 40  # as in the kernel (path_resolution(7))


class Node(NamedTuple):
    """What lies at a path: `entry` is row `position` of the index of layer `layer` (0 is the lowest).

    For a hard link `entry` is the file it links to: its path is where the content lies in the
    layer's archive, and two paths are one file if both numbers are equal. A directory that no layer
    has an entry for, the root included, is 0755 of root at layer -1.
    """

    entry: Entry
    layer: int
    position: int

    @classmethod
    def implicit(cls, path: bytes) -> Node:
        """A directory that no layer has an entry for."""
        return cls(Entry(path, Kind.DIR, 0o755), -1, -1)


class Merged:
    """The merged view of a stack of layers. Paths are as `Entry.path`.

    A subclass says what lies at a path and what a directory holds; the rest follows from that.
    """

    __slots__ = ()

    def get(self, path: bytes) -> Node | None:
        """What lies at exactly `path`; symbolic links are not followed."""
        raise NotImplementedError

    def kind(self, path: bytes) -> Kind | None:
        """The kind of what lies at exactly `path`, a hard link's being that of its file."""
        raise NotImplementedError

    def paths_in(self, path: bytes) -> list[bytes]:
        """As `children`, but their paths; the list stays the tree's."""
        raise NotImplementedError

    def kept(self, layer: int) -> Mapping[bytes, bytes]:
        """The contents that the index of `layer` keeps."""
        raise NotImplementedError

    def find(self, path: bytes) -> Node | None:
        """What lies at `path`, with every symbolic link followed. Raises `LayerError` for a loop."""
        return self.get(self.resolve(path))

    def is_folder(self, path: bytes) -> bool:
        """Whether a directory lies at exactly `path`."""
        return self.kind(path) is Kind.DIR

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """`path` as the kernel would find it in a chroot, without symbolic links on the way.

        Absolute links start at the root, ``..`` stops there. What does not exist is kept as written,
        so that a destination can be asked for. Raises `LayerError` after 40 links.
        """
        at = b""
        parts = path.split(b"/")[::-1]
        follow_last = follow_last or path.endswith(b"/")
        links = 0
        while parts:
            part = parts.pop()
            if part == b"..":
                at = at.rpartition(b"/")[0]
            if part in (b"", b".", b".."):
                continue
            below = at + b"/" + part if at else part
            if self.kind(below) is not Kind.SYMLINK or not (parts or follow_last):
                at = below
                continue
            links += 1
            if links > _LINKS_MAX:
                raise LayerError(f"{show(path)} runs into a loop of symbolic links")
            node = self.get(below)
            assert node is not None
            if node.entry.link.startswith(b"/"):
                at = b""
            parts += node.entry.link.split(b"/")[::-1]
        return at

    def children(self, path: bytes) -> list[bytes]:
        """The names in the directory `path`, sorted; none where it is not one."""
        start = len(path) + 1 if path else 0
        return [child[start:] for child in self.paths_in(path)]

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Node]]:
        """`path` and all below it, depth first, names sorted; nothing where it does not exist."""
        node = self.get(path)
        if node is None:
            return
        yield path, node
        if node.entry.kind is Kind.DIR:
            yield from self.below(path)

    def below(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        """What `walk` gives after the directory `path` itself."""
        stack = [iter(self.paths_in(path))]
        while stack:
            below = next(stack[-1], None)
            if below is None:
                stack.pop()
                continue
            node = self.get(below)
            assert node is not None
            yield below, node
            if node.entry.kind is Kind.DIR:
                stack.append(iter(self.paths_in(below)))

    def file(self, path: bytes) -> bytes | None:
        """The content at `path`, links followed, if the indexes keep it (etc/passwd, etc/group)."""
        node = self.find(path)
        return None if node is None or node.layer < 0 else self.kept(node.layer).get(node.entry.path)
