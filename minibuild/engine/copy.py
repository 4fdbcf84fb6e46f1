"""COPY, ADD and WORKDIR: a layer written straight from its sources, with no root filesystem."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from minibuild_store.shorthash import sha256

from minibuild.context.rows import Head, Row
from minibuild.context.select import NothingThere, selected
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles, Files, TreeFiles
from minibuild.errors import DockerfileError
from minibuild.layers.entry import Entry, Kind
from minibuild.plan import steps
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    from minibuild.context.place import Lower, Owner, Placement
    from minibuild.context.selection import Selected
    from minibuild.engine.contextcopy import Copying
    from minibuild.engine.fetched import Fetched
    from minibuild.engine.waiting import Waiting
    from minibuild.layers.merged import Merged

_INLINE_MODE = 0o644
_FETCHED_MODE = 0o600


class TreeLower:
    """A filesystem's merged tree, asked only when something must be known of it.

    With `runs_later` all layers that have to be fetched are fetched then: a RUN will need them unpacked.
    """

    def __init__(self, session: Session, filesystem: Filesystem, *, runs_later: bool) -> None:
        self._session = session
        self._filesystem = filesystem
        self._runs_later = runs_later
        self._tree: Merged | None = None

    @property
    def tree(self) -> Merged:
        if self._tree is None:
            layers = self._session.layers
            if self._runs_later:
                layers.fetch_names(self._filesystem)
            self._tree = layers.lazy_tree(self._filesystem, placing=True)
        return self._tree

    @property
    def chain(self) -> str | None:
        """The chain ID of what is below, None where that is not known yet."""
        return self._filesystem.chain

    def entry(self, path: bytes) -> Entry | None:
        node = self.tree.get(path)
        return None if node is None else node.entry

    def file(self, path: bytes) -> bytes | None:
        """The content of etc/passwd or etc/group."""
        return self.tree.file(path)

    def content(self, stack: ExitStack, path: bytes) -> bytes:
        """Where the content of the file at `path` is until `stack` is left."""
        files = TreeFiles(self._filesystem, self._session.layers, self._session.store)
        return _local(stack, files, next(files.view.walk(path)).where)

    def warn(self, text: str) -> None:
        self._session.notice("warning", text)


@dataclass(slots=True)
class Gathered:
    """The sources of a step, found and digested: `contents` by item position, the rest to write from.

    `surveys` are what the patterns select. `layer` is there already where the files had to be read for their
    digests, or where it was written before the step's turn; `read_once` is the selection that was read so.
    """

    session: Session
    step: steps.CopyStep
    files: Files
    lower: TreeLower
    made_ns: int
    write_first: bool
    contents: dict[int, str] = field(default_factory=dict)
    fetched: dict[int, Fetched] = field(default_factory=dict)
    surveys: dict[int, Selected] = field(default_factory=dict)
    sums: Callable[[bytes], str] | None = None
    layer: Layer | None = None
    read_once: str = ""


def gather(
    session: Session,
    step: steps.CopyStep,
    files: Files,
    lower: TreeLower,
    made_ns: int,
    *,
    write_first: bool = False,
) -> Gathered:
    """Find what `step` copies and what it is, by content. Raises `DockerfileError` for what is not there.

    With `write_first` the layer may be written on the way.
    """
    gathered = Gathered(session, step, files, lower, made_ns, write_first)
    for number, item in enumerate(step.items):
        match item:
            case steps.PathItem(pattern):
                gathered.contents[number] = _path_digest(gathered, number, pattern)
            case steps.InlineItem(_, content):
                data = content.encode("utf-8", "surrogateescape")
                gathered.contents[number] = sha256(data).hexdigest()
            case steps.UrlItem() | steps.GitItem():
                from minibuild.engine.fetch import fetch

                gathered.fetched[number] = fetch(session, item)
                gathered.contents[number] = gathered.fetched[number].identity
    return gathered


def _selection(step: steps.CopyStep, pattern: str) -> str:
    return f"{pattern}\n{step.exclude}\n{step.parents}\n{_keeps_modes(step)}"


def _keeps_modes(step: steps.CopyStep) -> bool:
    """Whether the modes of what is copied matter: no --chmod sets them all to one."""
    if step.unpack or not step.chmod:
        return True
    from minibuild.plan.chmod import octal

    return octal(step.chmod) is None


def _path_digest(gathered: Gathered, number: int, pattern: str) -> str:
    files, step = gathered.files, gathered.step
    selection = _selection(step, pattern)
    if isinstance(files, ContextFiles) and files.on_disk:
        try:
            return _surveyed_digest(gathered, number, files, pattern)
        except NothingThere as error:
            raise _not_found(error, files) from None
    known = None
    if isinstance(files, TreeFiles):
        known = files.known_digest(selection)
    elif isinstance(files, ContextFiles) and not step.parents:
        known = files.known_digest(selection, pattern)
    if known is not None:
        return known
    gathered.session.at_work()
    try:
        with gathered.session.working():
            survey, modes = _survey(gathered, number, pattern), _keeps_modes(step)
            if not isinstance(files, TreeFiles) or len(step.items) == 1:
                return files.digest(selection, survey, modes=modes)
            if gathered.sums is None:
                gathered.sums = files.sums(_unknown(gathered, files, number))
            return files.digest(selection, survey, modes=modes, sums=gathered.sums)
    except NothingThere as error:
        raise _not_found(error, files) from None


def _unknown(gathered: Gathered, files: TreeFiles, start: int) -> list[Selected]:
    """What the paths from `start` on select, as far as its digest is not known."""
    step = gathered.step
    return [
        _survey(gathered, number, item.pattern)
        for number, item in enumerate(step.items)
        if number >= start
        and isinstance(item, steps.PathItem)
        and files.known_digest(_selection(step, item.pattern)) is None
    ]


def _survey(gathered: Gathered, number: int, pattern: str) -> Selected:
    """What an item selects."""
    survey = gathered.surveys.get(number)
    if survey is None:
        step = gathered.step
        survey = gathered.files.survey(pattern, exclude=step.exclude, parents=step.parents)
        gathered.surveys[number] = survey
    return survey


def _surveyed_digest(gathered: Gathered, number: int, files: ContextFiles, pattern: str) -> str:
    """The digest of files of this machine; `gathered` gets their layer where they are written on the way."""
    session, step = gathered.session, gathered.step
    selection = _selection(step, pattern)
    survey = files.survey(pattern, exclude=step.exclude, parents=step.parents)
    gathered.surveys[number] = survey
    known = files.surveyed_before(selection, survey)
    if known is not None:
        return known
    session.at_work()
    from minibuild.engine.contextcopy import ContextCopy

    copying = ContextCopy(_copying(gathered), files, _keeps_modes(step))
    if not gathered.write_first or step.unpack or len(step.items) > 1:
        with session.working():
            return copying.look(survey, selection)
    # builds that copy the same wait for the first to read it, and find its digest
    with session.store.lock(f"read {files.root} {selection}", waiting=session.check):
        known = files.surveyed_before(selection, survey)
        if known is not None:
            return known
        chain = gathered.lower.chain
        looks = chain is not None and files.written_before(selection, _over(step, chain))
        with session.working():
            written = None if looks else copying.write_first(survey, selection)
            if written is None:
                return copying.look(survey, selection)
        content, gathered.layer = written
        gathered.read_once = selection
        return content


def note_written(gathered: Gathered, chain: str) -> None:
    """Have the next build of the step over `chain` look whether its layer is known, and not write it first.

    It may not know the files: if they have just been checked out, their stamps may not be trusted yet.
    """
    if gathered.read_once and isinstance(gathered.files, ContextFiles):
        gathered.files.note_written(gathered.read_once, _over(gathered.step, chain))


def _over(step: steps.CopyStep, chain: str) -> str:
    """What a step makes of a selection, and over what: all of its key that may differ from build to build."""
    return f"{'' if step.link else chain}\n{step.dest}\n{step.chown}\n{step.chmod}"


def _copying(gathered: Gathered) -> Copying:
    from minibuild.engine.contextcopy import Copying

    return Copying(gathered.session, gathered.step.dest, lambda: placement_of(gathered))


def _not_found(error: NothingThere, files: Files) -> DockerfileError:
    if not isinstance(files, ContextFiles):
        return DockerfileError(
            f'"/{error.path}": not found', cure="The stage or image it is copied from lacks it."
        )
    if files.ignore is not None:
        ignored, line = files.ignore.decision(error.path)
        if ignored and line is not None and os.path.lexists(files.root / error.path):
            return DockerfileError(
                f'"/{error.path}": excluded by {files.ignore.name}',
                cure=f"Line {line.number} ({line.text}) leaves it out; add !{error.path} below that line.",
            )
    return DockerfileError(
        f'"/{error.path}": not found in the build context {files.root}', cure=_near_miss(files, error.path)
    )


def _near_miss(files: ContextFiles, path: str) -> str:
    from minibuild.dockerfile.suggest import did_you_mean

    parent, name = os.path.split(path)
    try:
        names = os.listdir(files.root / parent)
    except OSError:
        names = []
    hint = did_you_mean(name, names)
    return hint.strip() or "Paths are relative to the build context, not to the Dockerfile."


def write_copy(gathered: Gathered) -> Layer:
    """The layer of a step whose sources are gathered."""
    files = gathered.files
    if gathered.layer is not None:
        return gathered.layer
    surveys = [
        _survey(gathered, number, item.pattern)
        for number, item in enumerate(gathered.step.items)
        if isinstance(item, steps.PathItem)
    ]
    try:
        archives = _archives(files, surveys) if gathered.step.unpack else frozenset()
        if len(surveys) < len(gathered.step.items) or archives:
            return _write(gathered, surveys, archives)
        return _copying(gathered).write(files, surveys)
    except NothingThere as error:
        raise _not_found(error, files) from None


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
                    for head, rows in _matches(_survey(gathered, number, pattern)):
                        first = next(rows)
                        if first.where not in archives or not unpack(local.get(first.where, first.where)):
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


def placement_of(gathered: Gathered) -> Placement:
    """The step's layer before anything is in it."""
    from minibuild.context.place import Nothing, Placement
    from minibuild.plan import chmod

    step = gathered.step
    lower: Lower = Nothing() if step.link else gathered.lower
    octal = chmod.octal(step.chmod) if step.chmod else None
    return Placement(
        lower,
        owner=_owner(step.chown, lower),
        chmod=chmod.changer(step.chmod) if step.chmod else None,
        folder_mode=0o755 if octal is None else octal,
        made_ns=gathered.made_ns,
        scratch=gathered.session.store.scratch,
    )


def _owner(text: str, lower: Lower) -> Owner | None:
    if not text:
        return None
    from minibuild.engine.accounts import owner_of

    if isinstance(lower, TreeLower):
        owner, unknown = owner_of(text, lower.file)
        for name in unknown:
            lower.warn(f"{name!r} is not in the image's passwd or group file; root is used instead")
        return owner
    owner, unknown = owner_of(text, lambda path: None)
    if unknown:
        raise DockerfileError(
            f"--chown={text} names a user or group, and --link knows none",
            cure="Give numbers, or leave out --link.",
        )
    return owner


class _Unpacking:
    """ADD of archives: what they are unpacked with."""

    def __init__(self, gathered: Gathered, stack: ExitStack, placement: Placement, waiting: Waiting) -> None:
        self._dest = gathered.step.dest
        self._placement = placement
        self._waiting = waiting
        self._below = partial(gathered.lower.content, stack)

    def __call__(self, path: bytes | Path) -> bool:
        """Extract the file at `path` where it is an archive; False where it is none."""
        from minibuild.engine.archive import extract_archive

        path = os.fsencode(path)
        return extract_archive(path, self._dest, self._placement, self._waiting, below=self._below)


def _local(stack: ExitStack, files: TreeFiles, name: bytes) -> bytes:
    """Where the content called `name` is until `stack` is left."""
    return os.fsencode(stack.enter_context(files.extracted(iter([name])))[name])


def _place_fetched(fetched: Fetched, step: steps.CopyStep, placement: Placement, unpack: _Unpacking) -> None:
    if fetched.tree is not None:
        for head, rows in _matches(selected(fetched.tree, "/", exclude=step.exclude)):
            placement.copy_rows(head, rows, step.dest)
        return
    if fetched.unpack and unpack(fetched.path):
        return
    entry = Entry(b"", Kind.FILE, _FETCHED_MODE, size=fetched.size, mtime_ns=fetched.mtime_ns)
    placement.put_file(fetched.name, step.dest, entry, where=os.fsencode(fetched.path))


def write_workdir(
    session: Session, step: steps.WorkdirStep, parent: Filesystem, made_ns: int, *, runs_later: bool
) -> Layer:
    """Write the layer of a WORKDIR: the folders that are missing, for the stage's user."""
    from minibuild.context.place import Placement
    from minibuild.engine.writing import write_layer

    lower = TreeLower(session, parent, runs_later=runs_later)
    placement = Placement(lower, owner=_owner(step.user, lower), made_ns=made_ns)
    placement.make_folders(placement.resolve(os.fsencode(step.path)))
    return write_layer(session, placement.finish())
