"""A large folder of a context, copied whole: walked, written, hashed and forgotten entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from minibuild.context.digests import hash_file
from minibuild.context.passage import Passage
from minibuild.context.place import Placed, Placement
from minibuild.context.rows import Match, Row
from minibuild.context.select import plain
from minibuild.context.stamps import Stamp, Stamping
from minibuild.engine.filesystem import Layer
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles
from minibuild.engine.writing import write_layer
from minibuild.errors import UsageError
from minibuild.layers.entry import Kind
from minibuild.values import NamedTuple


class Question(NamedTuple):
    """What is copied (see `FileDigests.digest`) and where to."""

    pattern: str
    selection: str
    modes: bool
    dest: str


class BigFolder:
    """`root` is the match with the folder's own row; `placement` makes the layer to put it into."""

    def __init__(
        self,
        session: Session,
        files: ContextFiles,
        question: Question,
        root: Match,
        placement: Callable[[], Placement],
    ) -> None:
        self._session = session
        self._files = files
        self._question = question
        self._root = root
        self._placement = placement
        self._stamp: Stamp | None = None

    def write_once(self, rows: Iterable[Row]) -> tuple[str, Layer]:
        """The content digest of `rows`, all below the folder, and the layer, in one go."""
        taking = self._files.taking(self._question.selection, self._root.name, modes=self._question.modes)
        digests: dict[bytes, str] = {}
        linked: dict[bytes, str] = {}

        def placed() -> Iterator[Placed]:
            passage = Passage(self._placement(), self._root, self._question.dest)
            taking.add(self._root.rows[0], "")
            yield from passage.begin()
            for row in rows:
                yield from passage.place(row)
                # by now it is written; of a file with several names the first one is
                digest = digests.pop(row.where, "") or linked.get(row.inode, "")
                if row.inode:
                    linked[row.inode] = digest
                taking.add(row, digest)

        layer = write_layer(self._session, placed(), self._files, digests)
        return taking.done(), layer

    def look(self, rows: Iterable[Row]) -> str:
        """The content digest of `rows`; what was not hashed before is read."""
        taking = self._files.taking(self._question.selection, self._root.name, modes=self._question.modes)
        taking.add(self._root.rows[0], "")
        for number, row in enumerate(rows):
            if not number % 1000:
                self._session.check()
            known = None
            if row.entry.kind is Kind.FILE:
                known = self._files.hashed(row)
                taking.add(row, known or hash_file(row.where, row.entry.size), new=known is None)
            else:
                taking.add(row, "")
        content = taking.done()
        self._stamp = taking.stamp
        return content

    def write(self) -> Layer:
        """The layer of what was looked at, as long as nothing has changed since."""
        stamping = Stamping(self._root.name)

        def placed() -> Iterator[Placed]:
            opened = plain(self._files.view, self._question.pattern)
            assert opened is not None  # as when it was looked at
            root, rows = opened
            passage = Passage(self._placement(), root, self._question.dest)
            stamping.add(root.rows[0])
            yield from passage.begin()
            for row in rows:
                yield from passage.place(row)
                stamping.add(row)
            if self._stamp is not None and stamping.done() != self._stamp:
                raise UsageError(
                    f"{self._files.root} changed while it was being copied",
                    cure="Build again once nothing writes to the build context.",
                )

        return write_layer(self._session, placed(), self._files)
