"""The layers of COPY, ADD and WORKDIR, written straight from their sources with no root filesystem."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from minibuild.context.place import Placement
from minibuild.context.rows import Head, Row
from minibuild.context.select import NothingThere, selected
from minibuild.engine.gathered import Gathered, TreeLower
from minibuild.engine.layerblobs import LayerLost
from minibuild.engine.placing import copying_of, owner_for, placement_of
from minibuild.engine.sources import Files, TreeFiles
from minibuild.errors import LayerError, UsageError
from minibuild.layers.entry import Entry, Kind
from minibuild.plan import steps

if TYPE_CHECKING:
    from minibuild.context.selection import Selected
    from minibuild.engine.fetched import Fetched
    from minibuild.engine.filesystem import Filesystem, Layer
    from minibuild.engine.session import Session
    from minibuild.engine.waiting import Waiting

_INLINE_MODE = 0o644
_FETCHED_MODE = 0o600


def write_copy(gathered: Gathered) -> Layer:
    """The layer of a step whose sources are gathered."""
    files = gathered.files
    if gathered.layer is not None:
        return gathered.layer
    surveys = [
        gathered.survey(number, item.pattern)
        for number, item in enumerate(gathered.step.items)
        if isinstance(item, steps.PathItem)
    ]
    try:
        archives = _archives(files, surveys) if gathered.step.unpack else frozenset()
        if len(surveys) < len(gathered.step.items) or archives:
            return _write(gathered, surveys, archives)
        return copying_of(gathered).write(files, surveys)
    except NothingThere as error:
        from minibuild.engine.notfound import not_found

        raise not_found(error, files) from None


def _archives(files: Files, surveys: list[Selected]) -> frozenset[bytes]:
    """Which of the files that an ADD names are to be unpacked, as their rows say where they are."""
    from minibuild.engine.archive import is_archive
    from minibuild.engine.contextcopy import single_files

    found = (row.where for survey in surveys for row in single_files(survey) if row.entry.size)
    if isinstance(files, TreeFiles):
        return frozenset(files.archives(found))
    return frozenset(where for where in found if is_archive(where))


def _write(gathered: Gathered, surveys: Sequence[Selected], archives: frozenset[bytes]) -> Layer:
    """A step that mixes paths with `archives` to unpack, downloads or here-documents."""
    from minibuild.engine.waiting import Waiting
    from minibuild.engine.writing import write_layer

    session, step, files = gathered.session, gathered.step, gathered.files
    placement = placement_of(gathered)
    with ExitStack() as stack:
        waiting = Waiting(session.store, stack)
        unpack = _Unpacking(gathered, stack, placement, waiting)
        local = stack.enter_context(files.extracted(iter(archives))) if isinstance(files, TreeFiles) else {}
        for number, item in enumerate(step.items):
            match item:
                case steps.PathItem(pattern):
                    for head, rows in _matches(gathered.survey(number, pattern)):
                        first = next(rows)
                        if first.where not in archives or not unpack(
                            local.get(first.where, first.where), os.fsdecode(head.name)
                        ):
                            placement.copy_rows(head, chain((first,), rows), step.dest)
                case steps.InlineItem(name, content):
                    data = content.encode("utf-8", "surrogateescape")
                    entry = Entry(b"", Kind.FILE, _INLINE_MODE, size=len(data), mtime_ns=gathered.made_ns)
                    placement.put_file(name, step.dest, entry, data=data)
                case steps.UrlItem() | steps.GitItem():
                    fetched = gathered.fetched[number]
                    if fetched.blob is not None:
                        session.store.blobs.check(fetched.blob)
                    _place_fetched(fetched, step, placement, unpack)
        return write_layer(session, placement.finish(), files.writing(surveys), waiting)


def _matches(items: Iterable[Head | Row]) -> Iterator[tuple[Head, Iterator[Row]]]:
    """Each match with its rows, of which all have to be taken before the next."""
    head = Head(b"", False)
    for is_head, group in groupby(items, lambda item: isinstance(item, Head)):
        if is_head:
            head = cast("Head", next(group))
        else:
            yield head, cast("Iterator[Row]", group)


class _Unpacking:
    """ADD of archives: what they are unpacked with."""

    def __init__(self, gathered: Gathered, stack: ExitStack, placement: Placement, waiting: Waiting) -> None:
        self._dest = gathered.step.dest
        self._placement = placement
        self._waiting = waiting
        self._below = partial(gathered.lower.content, stack)

    def __call__(self, path: bytes | Path, name: str) -> bool:
        """Extract the file at `path`, called `name`, where it is an archive; False where it is none."""
        from minibuild.engine.archive import extract_archive

        try:
            return extract_archive(
                os.fsencode(path), self._dest, self._placement, self._waiting, below=self._below
            )
        except LayerLost:  # what a hard link of the archive names
            raise
        except LayerError as error:
            raise UsageError(
                f"{name} cannot be unpacked: {error.message}",
                cure="Make or fetch the archive again, or add it as it is with COPY or --unpack=false.",
            ) from None


def _place_fetched(fetched: Fetched, step: steps.CopyStep, placement: Placement, unpack: _Unpacking) -> None:
    if fetched.tree is not None:
        for head, rows in _matches(selected(fetched.tree, "/", exclude=step.exclude)):
            placement.copy_rows(head, rows, step.dest)
        return
    if fetched.unpack and unpack(fetched.path, fetched.name):
        return
    entry = Entry(b"", Kind.FILE, _FETCHED_MODE, size=fetched.size, mtime_ns=fetched.mtime_ns)
    placement.put_file(fetched.name, step.dest, entry, where=os.fsencode(fetched.path))


def write_workdir(
    session: Session, step: steps.WorkdirStep, parent: Filesystem, made_ns: int, *, runs_later: bool
) -> Layer:
    """Write the layer of a WORKDIR: the folders that are missing, for the stage's user."""
    from minibuild.engine.writing import write_layer

    lower = TreeLower(session, parent, runs_later=runs_later)
    placement = Placement(lower, owner=owner_for(step.user, lower), made_ns=made_ns)
    placement.make_folders(placement.resolve(os.fsencode(step.path)))
    return write_layer(session, placement.finish())
