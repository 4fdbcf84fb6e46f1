"""What is told of each step that was solved: to the caller as a report, to the build's record as a row."""

from __future__ import annotations

import threading

from minibuild.cache.journal import StepRow
from minibuild.engine.lookup import Outcome, Place
from minibuild.engine.request import StepReport
from minibuild.engine.session import Session
from minibuild.engine.stagerows import stage_sources
from minibuild.plan.steps import Plan


class Notes:
    """The notes on one build's steps; thread-safe, since stages are solved side by side."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._reports: dict[tuple[int, int], StepReport] = {}  # by the numbers of stage and step
        self._mutex = threading.Lock()

    def reports(self) -> list[StepReport]:
        """A report for each step, in the Dockerfile's order."""
        return [self._reports[place] for place in sorted(self._reports)]

    def outcome(self, place: Place, outcome: Outcome, start: float, seconds: float) -> None:
        """Note a step that hit or was executed; `start` in seconds since the build's."""
        step, record, cause = place.stage.steps[place.number], outcome.record, outcome.cause
        size = record.layer.descriptor.size
        kind, reason, details = cause if cause is not None else ("", "", ())
        hit = outcome.hit
        report = StepReport(step.name, hit, seconds, 0 if hit else size, reason, details, kind)
        row = StepRow(
            stage=place.stage.name,
            number=place.number,
            name=step.name,
            instruction=step.instruction,
            key=outcome.key,
            hit=hit,
            start=start,
            seconds=seconds,
            saved=record.seconds if hit else 0.0,
            bytes=size,
            diff_id=record.layer.diff_id,
            cause=cause,
            origin=outcome.origin,
            parts=outcome.parts,
            waits=self._waits(place),
        )
        self._session.journal.add(row)
        with self._mutex:
            self._reports[place.stage.index, place.number] = report
            self._session.seconds_saved += row.saved

    def failure(self, place: Place, start: float, error: str) -> None:
        """Note a step that failed with the message `error`."""
        step = place.stage.steps[place.number]
        seconds = self._session.journal.now() - start
        row = StepRow(
            place.stage.name, place.number, step.name, step.instruction, "", False, start, seconds, 0.0, 0, ""
        )
        self._session.journal.add(row._replace(waits=self._waits(place), error=error))

    def _waits(self, place: Place) -> tuple[str, ...]:
        """The names of the stages whose files the step reads."""
        sources = stage_sources(place.stage.steps[place.number])
        return tuple(dict.fromkeys(self._plan.stage(source.index).name for source in sources))
