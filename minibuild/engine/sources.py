"""Where a step's files come from, whatever they come from: selection, content digest, bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minibuild_store.shorthash import sha256
from minibuild_store.store import Store

from minibuild.context.digests import FileDigests, content_digest, listing, open_file
from minibuild.context.folder import FolderView
from minibuild.context.rows import Match, Row, View
from minibuild.context.survey import Survey
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.layerforms import Layers
from minibuild.errors import UsageError
from minibuild.layers.entry import Entry, Kind

if TYPE_CHECKING:
    from minibuild.context.place import Placed
    from minibuild.context.taking import Taking
    from minibuild.context.treeview import TreeView
    from minibuild.dockerfile.ignorefile import IgnoreFile
    from minibuild.layers.merged import Merged
    from minibuild.layers.writer import LayerWriter


class Files(Protocol):
    """Something to copy from."""

    @property
    def view(self) -> View: ...

    def digest(self, selection: str, matches: Sequence[Match], *, modes: bool = True) -> str:
        """The content digest of `matches`, which `selection` (pattern and flags) picked."""

    def writing(self, placed: Sequence[Placed], digests: dict[bytes, str] | None = None) -> Writing:
        """A context in which the contents of `placed` can be written.

        With `digests` the SHA-256 (hex) of what is written is noted in it, by `Placed.where`, for files of
        a context.
        """


class Writing(Protocol):
    def __enter__(self) -> Writing: ...

    def __exit__(self, *_: object) -> None: ...

    def write(self, writer: LayerWriter, placed: Placed) -> None:
        """Add one regular file with its content to the layer."""


class ContextFiles:
    """A folder of this machine."""

    def __init__(self, root: Path, ignore: IgnoreFile | None, store: Store) -> None:
        self.view = FolderView(str(root), ignore)
        self.root = root
        self.ignore = ignore
        self._store = store
        self._ignore_text = "" if ignore is None else "\n".join(line.text for line in ignore.patterns)
        self._digests = FileDigests(
            str(root),
            store.records("selections"),
            store.records("files"),
            store.records("listings"),
            store.scratch,
        )

    on_disk = True
    """Whether the files are where their rows say, to be surveyed."""

    def survey(self, pattern: str, *, exclude: tuple[str, ...], parents: bool) -> Survey:
        """What `pattern` selects, not looked at yet."""
        scratch = self._store.scratch
        return Survey(self.view, pattern, exclude=exclude, parents=parents, scratch=scratch)

    def surveyed_before(self, selection: str, survey: Survey) -> str | None:
        """The digest of what `survey` finds, if nothing of that has changed since it was taken."""
        return self._digests.known(f"{selection}\n{self._ignore_text}", survey.stamp)

    def taken_before(self, selection: str) -> bool:
        """Whether a digest of `selection` was ever taken and kept, of what was there then."""
        return self._digests.taken_before(f"{selection}\n{self._ignore_text}")

    @property
    def never_hashed(self) -> bool:
        """Whether nothing is known of any file of the folder."""
        return not self._digests.table

    def heard_of(self, row: Row) -> bool:
        """Whether the file was ever hashed, as it is or as it was."""
        return self._digests.heard_of(row)

    def taking(self, survey: Survey, selection: str, *, modes: bool) -> Taking:
        """Takes the digest of what was surveyed."""
        from minibuild.context.taking import Taking

        return Taking(self._digests, survey, f"{selection}\n{self._ignore_text}", modes=modes)

    def known_digest(self, selection: str, pattern: str) -> str | None:
        """The digest of what `pattern` selects, where it is known with no survey."""
        return None

    def digest(self, selection: str, matches: Sequence[Match], *, modes: bool = True) -> str:
        raise NotImplementedError  # what is on disk is surveyed

    def writing(self, placed: Sequence[Placed], digests: dict[bytes, str] | None = None) -> Writing:
        return _FromDisk(digests)

    def save(self) -> None:
        self._digests.save()


class _FromDisk:
    def __init__(self, digests: dict[bytes, str] | None = None) -> None:
        self._digests = digests

    def __enter__(self) -> _FromDisk:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, writer: LayerWriter, placed: Placed) -> None:
        """Write the file and make sure that it is still the one that was looked at."""
        fd = open_file(placed.where)
        try:
            if self._digests is None:
                writer.add(placed.entry, fd)
            else:
                import hashlib

                digest = hashlib.sha256()
                writer.add(placed.entry, fd, digest.update)
                self._digests[placed.where] = digest.hexdigest()
            status = os.fstat(fd)
        finally:
            os.close(fd)
        stamp = b"%d %d %d %d" % (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if stamp != placed.stamp:
            raise UsageError(
                f"{os.fsdecode(placed.where)} changed while it was being copied",
                cure="Build again once nothing writes to the build context.",
            )


class TreeFiles:
    """The filesystem of a stage or an image, read from the layers' blobs; needs no privileges."""

    def __init__(self, filesystem: Filesystem, layers: Layers, store: Store) -> None:
        self.filesystem = filesystem
        self._layers = layers
        self._store = store
        self._memo = store.records("selections")
        self._view: TreeView | None = None

    @property
    def view(self) -> TreeView:
        if self._view is None:
            self._view = self._opened(self._layers.lazy_tree(self.filesystem))
        return self._view

    def _opened(self, tree: Merged) -> TreeView:
        from minibuild.context.treeview import TreeView

        return TreeView(tree)

    def known_digest(self, selection: str) -> str | None:
        """The digest that `selection` had for this very filesystem before, if it was ever asked for."""
        name = self._name(selection)
        data = self._memo.get(name)
        text = self._layers.shared_note(name) if data is None else data.decode()
        if text is None:
            return None
        self._layers.notes[name] = text
        return text[:64]

    def digest(self, selection: str, matches: Sequence[Match], *, modes: bool = True) -> str:
        digests = self._file_digests(matches)
        content = content_digest(matches, digests, modes=modes)
        # the topmost layer is named with it, so that gc can tell when the note is of no more use
        top = self.filesystem.layers[-1].diff_id if self.filesystem.layers else ""
        name, text = self._name(selection), f"{content} {top}"
        self._layers.notes[name] = text
        self._memo.put(name, text.encode())
        self._store.records("listings").put(content, listing(matches, digests))
        return content

    def _name(self, selection: str) -> str:
        text = f"{self.filesystem.chain}\n{selection}"
        return "tree-" + sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def _file_digests(self, matches: Sequence[Match]) -> dict[bytes, str]:
        from minibuild.layers.scan import digests

        found: dict[bytes, str] = {}
        wanted = _by_layer(row.where for match in matches for row in match.rows)
        digests_of = {number: self._known(self.filesystem.layers[number].diff_id) for number in wanted}
        self._fetch(
            number for number, positions in wanted.items() if set(positions) - digests_of[number].keys()
        )
        for number, positions in wanted.items():
            layer, known = self.filesystem.layers[number], digests_of[number]
            missing = [position for position in positions if position not in known]
            if missing:
                with self._layers.reading(layer) as blob:
                    known.update(digests(blob, layer.descriptor.media_type, missing))
                table = {str(position): digest for position, digest in known.items()}
                self._store.records("contents").put(layer.diff_id, json.dumps(table).encode())
            for position in positions:
                found[b"%d:%d" % (number, position)] = known[position]
        return found

    def _fetch(self, numbers: Iterable[int]) -> None:
        self._layers.fetch([self.filesystem.layers[number] for number in numbers])

    def _known(self, diff_id: str) -> dict[int, str]:
        data = self._store.records("contents").get(diff_id)
        return {int(position): digest for position, digest in json.loads(data).items()} if data else {}

    def writing(self, placed: Sequence[Placed], digests: dict[bytes, str] | None = None) -> Writing:
        return _FromBlobs(self, placed)

    @contextmanager
    def extracted(self, names: Iterator[bytes]) -> Iterator[dict[bytes, Path]]:
        """The contents called `names`, as files in a folder that goes away afterwards."""
        from minibuild.layers.scan import extract

        with self._store.workspace() as folder:
            files: dict[bytes, Path] = {}
            by_layer = _by_layer(names)
            self._fetch(by_layer)
            for number, positions in by_layer.items():
                layer = self.filesystem.layers[number]
                wanted = {position: folder / f"{number}-{position}" for position in positions}
                with self._layers.reading(layer) as blob:
                    extract(blob, layer.descriptor.media_type, wanted)
                files.update({b"%d:%d" % (number, position): path for position, path in wanted.items()})
            yield files


class ContextTree(TreeFiles):
    """A context that is no folder of this machine, kept as a layer."""

    def _opened(self, tree: Merged) -> TreeView:
        from minibuild.context.veil import UnveiledView

        return UnveiledView(tree)


class _FromBlobs:
    def __init__(self, source: TreeFiles, placed: Sequence[Placed]) -> None:
        self._source = source
        self._placed = placed
        self._stack = ExitStack()
        self._files: dict[bytes, Path] = {}

    def __enter__(self) -> _FromBlobs:
        names = (item.where for item in self._placed if item.entry.kind is Kind.FILE)
        self._files = self._stack.enter_context(self._source.extracted(names))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, writer: LayerWriter, placed: Placed) -> None:
        writer.add(placed.entry, self._files[placed.where])


class NoFiles:
    """An empty filesystem (``--from=scratch``)."""

    @property
    def view(self) -> View:
        return _EmptyView()

    def digest(self, selection: str, matches: Sequence[Match], *, modes: bool = True) -> str:
        return content_digest(matches, {}, modes=modes)

    def writing(self, placed: Sequence[Placed], digests: dict[bytes, str] | None = None) -> Writing:
        return _FromDisk()


class _EmptyView:
    def resolve(self, path: bytes) -> bytes:
        return path

    def entry(self, path: bytes) -> Entry | None:
        return None if path else Entry(b"", Kind.DIR, 0o755)

    def names(self, path: bytes) -> list[bytes]:
        return []

    def walk(self, path: bytes) -> Iterator[Row]:
        root = self.entry(path)
        return iter(() if root is None else (Row(root, b""),))


def _by_layer(names: Iterator[bytes]) -> dict[int, list[int]]:
    from minibuild.context.treeview import content_place

    grouped: dict[int, set[int]] = {}
    for name in names:
        if name:
            number, position = content_place(name)
            grouped.setdefault(number, set()).add(position)
    return {number: sorted(positions) for number, positions in grouped.items()}
