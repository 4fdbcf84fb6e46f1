"""Where a step's files come from, whatever they come from: selection, content digest, bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from minibuild_store import stopping
from minibuild_store.shorthash import sha256
from minibuild_store.store import Store

from minibuild.context.digests import FileDigests, content_digest, open_file
from minibuild.context.folder import FolderView
from minibuild.context.rows import Row, View
from minibuild.context.survey import Survey
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.layerforms import Layers
from minibuild.errors import UsageError
from minibuild.layers.entry import Entry, Kind

if TYPE_CHECKING:
    from minibuild.context.placed import Placed
    from minibuild.context.selection import Selected
    from minibuild.context.taking import Taking
    from minibuild.context.treeview import TreeSelection, TreeView
    from minibuild.dockerfile.ignorefile import IgnoreFile
    from minibuild.engine.treecontents import Wanted
    from minibuild.layers.merged import Merged
    from minibuild.layers.writer import LayerWriter

_AT_ONCE = 1_000  # rows that are taken in together


class Files(Protocol):
    """Something to copy from."""

    @property
    def view(self) -> View: ...

    def survey(self, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> Selected:
        """What `pattern` selects, not looked for yet."""

    def digest(self, selection: str, survey: Selected, *, modes: bool = True) -> str:
        """The content digest of what was surveyed, which `selection` (pattern and flags) picked."""

    def writing(self, surveys: Sequence[Selected]) -> Writing:
        """A context in which the contents of what was surveyed can be written."""


class Writing(Protocol):
    """Leaving it may raise: contents count only once that has gone well."""

    def __enter__(self) -> Writing: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

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

    def survey(self, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> Survey:
        scratch = self._store.scratch
        return Survey(self.view, pattern, exclude=exclude, parents=parents, scratch=scratch)

    def surveyed_before(self, selection: str, survey: Survey) -> str | None:
        """The digest of what `survey` finds, if nothing of that has changed since it was taken."""
        return self._digests.known(f"{selection}\n{self._ignore_text}", survey.stamp)

    def taken_before(self, selection: str) -> bool:
        """Whether a digest of `selection` was ever taken and kept, of what was there then."""
        return self._digests.taken_before(f"{selection}\n{self._ignore_text}")

    def note_written(self, selection: str, over: str) -> None:
        """Remember that `selection` was put `over` something, unless its digest is kept: it may be racy."""
        if not self.taken_before(selection):
            self._digests.note_written(f"{selection}\n{self._ignore_text}\n{over}")

    def written_before(self, selection: str, over: str) -> bool:
        return self._digests.written_before(f"{selection}\n{self._ignore_text}\n{over}")

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

    def digest(self, selection: str, survey: Selected, *, modes: bool = True) -> str:
        raise NotImplementedError  # what is on disk has a stamp

    def writing(self, surveys: Sequence[Selected], digests: dict[bytes, str] | None = None) -> Writing:
        """With `digests` the SHA-256 (hex) of what is written is noted in it, by `Placed.where`."""
        return _FromDisk(digests)

    def hash_at_hand(self, file: Placed) -> str | None:
        """The SHA-256 (hex) of a file, where it was hashed when it was as it is and that is told soon."""
        return self._digests.at_hand(file)

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

    def survey(self, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> TreeSelection:
        from minibuild.context.treeview import TreeSelection

        scratch = self._store.scratch
        return TreeSelection(lambda: self.view, pattern, exclude=exclude, parents=parents, scratch=scratch)

    def digest(
        self,
        selection: str,
        survey: Selected,
        *,
        modes: bool = True,
        sums: Callable[[bytes], str] | None = None,
    ) -> str:
        """`sums` of it and others, where these are asked for one after the other."""
        content, listing = self._content(survey, sums or self.sums([survey]), modes=modes)
        # the topmost layer is named with it, so that gc can tell when the note is of no more use
        top = self.filesystem.layers[-1].diff_id if self.filesystem.layers else ""
        name, text = self._name(selection), f"{content} {top}"
        self._layers.notes[name] = text
        self._memo.put(name, text.encode())
        self._store.records("listings").put(content, listing)
        return content

    def _content(
        self, survey: Selected, digest_of: Callable[[bytes], str], *, modes: bool
    ) -> tuple[str, bytes]:
        """The content digest of what was surveyed, and its listing."""
        from minibuild.context.content import Content

        content = Content(modes=modes, linked=True)
        items = iter(survey)
        while some := list(islice(items, _AT_ONCE)):
            stopping.check()
            content.take(some, [digest_of(item.where) if isinstance(item, Row) else "" for item in some])
        return content.done()

    def sums(self, surveys: Sequence[Selected]) -> Callable[[bytes], str]:
        """The SHA-256 (hex) of what was surveyed, by `Row.where`; layers are read once for all of it."""
        from minibuild.engine.treecontents import Sums

        return Sums(self._store, self._layers, self.filesystem, _wanted(surveys)).of

    def _name(self, selection: str) -> str:
        text = f"{self.filesystem.chain}\n{selection}"
        return "tree-" + sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def writing(self, surveys: Sequence[Selected]) -> Writing:
        from minibuild.engine.treecontents import FromBlobs

        return FromBlobs(self._store, self._layers, self.filesystem, lambda: _wanted(surveys))

    def layer_of(self, surveys: Sequence[Selected], placed: Callable[[], Iterable[Placed]]) -> Layer | None:
        """The layer that what was surveyed comes to as it is `placed`, where this build has written it."""
        from minibuild.engine.samelayer import same_layer

        return same_layer(self._layers, self.filesystem, _wanted(surveys), placed)

    def archives(self, names: Iterator[bytes]) -> Iterator[bytes]:
        """Those of the contents called `names` that are archives to unpack; each layer is read once."""
        from minibuild.context.treeview import content_name
        from minibuild.engine.archive import begins_archive
        from minibuild.layers.scan import bodies

        by_layer = _by_layer(names)
        self._layers.fetch([self.filesystem.layers[number] for number in by_layer])
        for number, positions in by_layer.items():
            layer = self.filesystem.layers[number]
            wanted = bytearray(positions[-1] + 1)
            for position in positions:
                wanted[position] = 1
            with self._layers.reading(layer) as blob:
                for position, body in bodies(blob, layer.descriptor.media_type, wanted):
                    if begins_archive(body):
                        yield content_name(number, position)

    @contextmanager
    def extracted(self, names: Iterator[bytes]) -> Iterator[dict[bytes, Path]]:
        """The contents called `names`, as files in a folder that goes away afterwards."""
        from minibuild.layers.scan import extract

        with self._store.workspace() as folder:
            files: dict[bytes, Path] = {}
            by_layer = _by_layer(names)
            self._layers.fetch([self.filesystem.layers[number] for number in by_layer])
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


class NoFiles:
    """An empty filesystem (``--from=scratch``)."""

    @property
    def view(self) -> View:
        return _EmptyView()

    def survey(self, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> Selected:
        from minibuild.context.selection import Selection

        return Selection(_EmptyView, pattern, exclude=exclude, parents=parents)

    def digest(self, selection: str, survey: Selected, *, modes: bool = True) -> str:
        from minibuild.context.select import held

        return content_digest(held(survey), {}, modes=modes)

    def writing(self, surveys: Sequence[Selected]) -> Writing:
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


def _wanted(surveys: Sequence[Selected]) -> Wanted:
    """How often the files of layers were selected, in all surveys of trees together; see `Wanted`."""
    from minibuild.context.treeview import TreeSelection

    found: dict[int, bytearray] = {}
    for survey in surveys:
        assert isinstance(survey, TreeSelection)
        for layer, counts in survey.wanted().items():
            before = found.get(layer)
            if before is None:
                found[layer] = counts
                continue
            longer, shorter = sorted((before, counts), key=len, reverse=True)
            both = bytearray(longer)
            for position, count in enumerate(shorter):
                both[position] = min(both[position] + count, 2)
            found[layer] = both
    return found
