"""What is made of a build's record once the build is over: a summary, metrics, spans."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreError

from minibuild.cache.builds import Builds
from minibuild.cli.options import open_store
from minibuild.errors import MinibuildError, OutputError, UsageError
from minibuild.events import BuildStarted, Event, EventSink

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


class Afterwards:
    """Files to write (a name each, "" for none) and spans to send when the build has ended, however it did.

    Raises `UsageError` for `spans` that were asked for by name and cannot be had; spans that only the
    environment asks for cost a warning.
    """

    def __init__(self, summary: str, metrics: str, *, spans: bool) -> None:
        self._summary = summary
        self._metrics = metrics
        self._build = ""
        self._exporter = _exporter(spans)

    def watching(self, sink: EventSink) -> EventSink:
        """The same sink; events tell which record is this build's."""

        def told(event: Event) -> None:
            if isinstance(event, BuildStarted):
                self._build = event.id
            sink(event)

        return told

    def __enter__(self) -> Afterwards:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Write and send. A file that cannot be written is an error, unless the build has one already."""
        try:
            self._tell()
        except (MinibuildError, StoreError) as second:
            if error is None:
                raise
            _warn(second)

    def _tell(self) -> None:
        with open_store() as store:
            builds = Builds(store)
            record = builds.get(self._build)
            if self._metrics:
                from minibuild.report.metrics import metrics

                _write(self._metrics, metrics(builds.all()), "w")
        if record is None:  # it ended before it had steps
            return
        if self._summary:
            from minibuild.report.summary import markdown

            _write(self._summary, markdown(record), "a")
        if self._exporter is not None:
            from minibuild.report.spans import send

            try:
                send(record, self._exporter, os.environ)
            except MinibuildError as error:
                _warn(error)


def _exporter(asked: bool) -> SpanExporter | None:
    from minibuild.report.spans import asked_for, otlp_exporter, switched_off

    if switched_off(os.environ) or not (asked or asked_for(os.environ)):
        return None
    try:
        return otlp_exporter(os.environ)
    except UsageError as error:
        if asked:
            raise
        _warn(error)
        return None


def _write(name: str, text: str, mode: str) -> None:
    """Append to a file, or write it whole."""
    from minibuild.exporters.target import output_file

    if mode == "w":
        with output_file(Path(name)) as writer:
            writer.write(text.encode("utf-8", "replace"))
        return
    try:
        with Path(name).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}", cure="Name another file.") from None


def _warn(error: MinibuildError | StoreError) -> None:
    cure = f". {error.cure}" if isinstance(error, MinibuildError) and error.cure else ""
    print(f"WARNING: {error}{cure}", file=sys.stderr)
