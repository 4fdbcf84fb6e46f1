"""COPY and ADD of paths: digested and written row by row, whatever is selected, and from wherever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from minibuild.context.place import Placement
from minibuild.context.placed import Placed
from minibuild.context.rows import Head, Row
from minibuild.context.survey import Survey
from minibuild.engine.filesystem import Layer
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextFiles, Files, TreeFiles, Writing
from minibuild.engine.writing import write_layer
from minibuild.layers.entry import Kind
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.context.passage import Passage, Step
    from minibuild.context.selection import Selected
    from minibuild.context.taking import Taking
    from minibuild.engine.layersums import Known

_LITTLE = 1 << 20
_FEW = 5_000
_SHA256 = 32


class Copying(NamedTuple):
    """What is copied to `dest`; `placement` makes the layer to put it into.

    With `noted` what is known of its files' contents is kept, for those who copy from the layer.
    """

    session: Session
    dest: str
    placement: Callable[[], Placement]
    noted: bool = False

    def write(self, files: Files, surveys: Sequence[Selected]) -> Layer:
        """The layer of what was surveyed; raises `UsageError` for a file on disk that has changed since."""
        if isinstance(files, ContextFiles):
            return self.noting(self._placed(surveys), files.hash_at_hand, files.writing(surveys))
        if isinstance(files, TreeFiles) and self.session.layers.stand_ins is None:
            same = files.layer_of(surveys, partial(self._placed, surveys))
            if same is not None:
                return same
        return write_layer(self.session, self._placed(surveys), files.writing(surveys))

    def _placed(self, surveys: Sequence[Selected]) -> Iterator[Placed]:
        return (placed for step in self.steps(surveys) for placed in step.due)

    def noting(self, placed: Iterator[Placed], known: Known, writing: Writing) -> Layer:
        """The layer of `placed`; `known` is asked for the contents of what was written."""
        if not self.noted or self.session.layers.stand_ins is not None:  # no stand-in is read again
            return write_layer(self.session, placed, writing)
        from minibuild.engine.layersums import LayerSums

        sums = LayerSums()
        layer = write_layer(self.session, sums.passing(placed, known), writing)
        sums.keep(self.session.store, layer.diff_id)
        return layer

    def steps(self, surveys: Sequence[Selected]) -> Iterator[Step]:
        passage = self.passage()
        if len(surveys) == 1 and surveys[0].one:
            return passage.one(surveys[0])
        return passage.several(chain.from_iterable(surveys), self.session.store.scratch)

    def passage(self) -> Passage:
        from minibuild.context.passage import Passage

        return Passage(self.placement(), self.dest)


class ContextCopy(NamedTuple):
    """What is copied from a folder of this machine."""

    copying: Copying
    files: ContextFiles
    modes: bool

    @property
    def session(self) -> Session:
        return self.copying.session

    def look(self, survey: Survey, selection: str) -> str:
        """The content digest of what was surveyed; what was not hashed before is read."""
        from minibuild.context.taking import AT_ONCE

        taking = self._taking(survey, selection)
        items = iter(survey)
        while some := list(islice(items, AT_ONCE)):
            self.session.check()
            taking.look(some)
        return taking.done()

    def write_first(self, survey: Survey, selection: str) -> tuple[str, Layer] | None:
        """The content digest and the layer, where there is something to read that was never hashed.

        Files that were never hashed are nearly always part of a layer that was never made. Where the layer
        turns out to be known after all, the blob is left for gc.
        """
        if survey.one and self.files.never_hashed:
            items = survey.walking()
            begun, more = _begin(items)
            if not more:
                return None
            survey.forget()
            return self._write_one(survey, selection, chain(begun, items))
        if self.files.taken_before(selection) or not self._mostly_new(survey):
            return None
        if survey.one:
            return self._write_one(survey, selection, iter(survey))
        return self._write_several(survey, selection)

    def _taking(self, survey: Survey, selection: str) -> Taking:
        return self.files.taking(survey, selection, modes=self.modes)

    def _mostly_new(self, survey: Survey) -> bool:
        """Whether most of what was surveyed, and more than a little, was never hashed."""
        new = known = 0
        for item in survey:
            if isinstance(item, Row) and item.entry.size:
                if self.files.heard_of(item):
                    known += item.entry.size
                else:
                    new += item.entry.size
        return new > max(known, _LITTLE)

    def _write_one(self, survey: Survey, selection: str, items: Iterator[Head | Row]) -> tuple[str, Layer]:
        """One match: walked, written, hashed and forgotten row by row."""
        taking = self._taking(survey, selection)
        digests: dict[bytes, str] = {}
        linked: dict[bytes, str] = {}

        def placed() -> Iterator[Placed]:
            head = next(items)
            taking.add(head)
            for _, row, due in self.copying.passage().one(chain((head,), items)):
                yield from due
                # by now it is written; of a file with several names the first one is
                digest = digests.pop(row.where, "") or linked.get(row.inode, "")
                if row.inode:
                    linked[row.inode] = digest
                taking.add(row, digest)

        layer = self._written(placed(), survey, digests)
        return taking.done(), layer

    def _written(self, placed: Iterator[Placed], survey: Survey, digests: dict[bytes, str]) -> Layer:
        """The layer; `digests` gets what was hashed on the way."""
        writing = self.files.writing((survey,), digests)
        return self.copying.noting(placed, lambda file: digests.get(file.where), writing)

    def _write_several(self, survey: Survey, selection: str) -> tuple[str, Layer]:
        """Any number of matches: written in the order of their places, then digested in their own."""
        digests: dict[bytes, str] = {}
        found = bytearray()  # by the numbers of rows
        linked: dict[bytes, str] = {}

        def placed() -> Iterator[Placed]:
            for number, row, due in self.copying.steps((survey,)):
                yield from due
                digest = digests.pop(row.where, "")
                if digest:
                    if row.inode:
                        linked[row.inode] = digest
                    place = number * _SHA256
                    found.extend(bytes(max(place + _SHA256 - len(found), 0)))
                    found[place : place + _SHA256] = bytes.fromhex(digest)

        layer = self._written(placed(), survey, digests)
        taking = self._taking(survey, selection)
        place = 0
        for item in survey:
            if isinstance(item, Head):
                taking.add(item)
                continue
            digest = found[place : place + _SHA256]
            place += _SHA256
            # one that made room for a later match is looked up, or read
            taking.add(item, digest.hex() if any(digest) else linked.get(item.inode, ""))
        return taking.done(), layer


def _begin(items: Iterator[Head | Row]) -> tuple[list[Head | Row], bool]:
    """The first items, and whether there are more: of a few rows and little content that is all."""
    held: list[Head | Row] = []
    size = 0
    for item in items:
        held.append(item)
        if isinstance(item, Row):
            size += item.entry.size
        if size > _LITTLE or len(held) > _FEW:
            return held, True
    return held, False


def single_files(survey: Selected) -> Iterator[Row]:
    """The matches that are regular files."""
    begun = False
    for item in survey:
        if isinstance(item, Head):
            begun = True
        elif begun:
            begun = False
            if item.entry.kind is Kind.FILE:
                yield item
            elif survey.one:
                return
