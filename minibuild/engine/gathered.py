"""What a COPY or ADD has gathered before its layer is written, and what it may ask of the files below it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from minibuild.engine.sources import Files, TreeFiles
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild.context.selection import Selected
    from minibuild.engine.fetched import Fetched
    from minibuild.engine.filesystem import Filesystem, Layer
    from minibuild.engine.session import Session
    from minibuild.layers.entry import Entry
    from minibuild.layers.merged import Merged
    from minibuild.plan import steps


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

    `surveys` are what the patterns select; `noted` says that others copy from the layer. That is there
    already where the files had to be read for their digests, or where it was written before the step's turn;
    `read_once` is the selection that was read so. `sums` are of the files of the items `summed`.
    """

    session: Session
    step: steps.CopyStep
    files: Files
    lower: TreeLower
    made_ns: int
    write_first: bool
    noted: bool = False
    contents: dict[int, str] = field(default_factory=dict)
    fetched: dict[int, Fetched] = field(default_factory=dict)
    surveys: dict[int, Selected] = field(default_factory=dict)
    sums: Callable[[bytes], str] | None = None
    summed: frozenset[int] = frozenset()
    layer: Layer | None = None
    read_once: str = ""

    def survey(self, number: int, pattern: str) -> Selected:
        """What an item selects."""
        survey = self.surveys.get(number)
        if survey is None:
            survey = self.files.survey(pattern, exclude=self.step.exclude, parents=self.step.parents)
            self.surveys[number] = survey
        return survey


def _local(stack: ExitStack, files: TreeFiles, name: bytes) -> bytes:
    """Where the content called `name` is until `stack` is left."""
    return os.fsencode(stack.enter_context(files.extracted(iter([name])))[name])
