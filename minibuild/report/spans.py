"""A build as OpenTelemetry spans: one for the build, one below it for each step. Needs the extra ``otel``.

Spans are made from the record once the build is over, with the times that it holds, and go out together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from minibuild.cache.builds import BuildRecord, critical_path
from minibuild.cache.journal import StepRow
from minibuild.errors import OutputError, UsageError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_TIMEOUT = 3.0
"""Seconds that the end of a build waits for a collector; OpenTelemetry's own ten are felt."""

_Value = str | bool | int | float | tuple[str, ...]


def asked_for(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables name a place to send spans to."""
    return any(environ.get(name) for name in _ENDPOINTS) and not switched_off(environ)


def switched_off(environ: Mapping[str, str]) -> bool:
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return disabled or environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"


def otlp_exporter(environ: Mapping[str, str]) -> SpanExporter:
    """OTLP over HTTP to where ``OTEL_*`` variables say (default: this machine). Raises `UsageError`."""
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise UsageError(
            f"spans cannot be sent by {protocol}",
            cure="Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the endpoint's port for it, mostly 4318.",
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise UsageError(
            "spans need opentelemetry, which is not installed",
            cure="Install it with: pip install 'minibuild[otel]', or set OTEL_TRACES_EXPORTER=none.",
        ) from None
    named = any(environ.get(name) for name in _TIMEOUTS)
    return OTLPSpanExporter() if named else OTLPSpanExporter(timeout=_TIMEOUT)


def send(record: BuildRecord, exporter: SpanExporter, environ: Mapping[str, str]) -> None:
    """Hand the spans of `record` to `exporter`; raises `OutputError` where it does not take them.

    ``TRACEPARENT`` of `environ` is what the build's span belongs to, if it is set.
    """
    from opentelemetry.sdk.trace.export import SpanExportResult

    heard = _Heard()
    log = logging.getLogger("opentelemetry")
    before, log.propagate = log.propagate, False
    log.addHandler(heard)
    try:
        result = exporter.export(spans(record, environ))
        if result is not SpanExportResult.SUCCESS:
            raise OutputError(
                f"spans were not sent: {heard.last.rstrip('.') or 'the collector refused them'}",
                cure="Check OTEL_EXPORTER_OTLP_ENDPOINT.",
            )
    finally:
        exporter.shutdown()
        log.removeHandler(heard)
        log.propagate = before


class _Heard(logging.Handler):
    """Keeps what the exporter logs, for the one message that is to come of it."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def spans(record: BuildRecord, environ: Mapping[str, str]) -> tuple[ReadableSpan, ...]:
    """The spans of `record`, finished."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(
        resource=Resource.create({} if named else {"service.name": "minibuild"}), shutdown_on_exit=False
    )
    finished = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    _draw(record, provider.get_tracer("minibuild"), _parent(environ))
    return tuple(finished.get_finished_spans())


def _parent(environ: Mapping[str, str]) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    names = ("traceparent", "tracestate")
    carrier = {name: environ[name.upper()] for name in names if environ.get(name.upper())}
    return TraceContextTextMapPropagator().extract(carrier)


def _draw(record: BuildRecord, tracer: Tracer, parent: Context) -> None:
    from opentelemetry.trace import set_span_in_context

    path = critical_path(record)
    attributes: dict[str, _Value] = {
        "minibuild.build.id": record.id,
        "minibuild.build.dockerfile": record.dockerfile,
        "minibuild.build.status": record.status,
        "minibuild.build.image": record.image,
        "minibuild.build.tags": record.tags,
        "minibuild.build.steps": len(record.steps),
        "minibuild.build.hits": record.hits,
        "minibuild.build.saved_seconds": record.saved,
        "minibuild.build.critical_seconds": sum(step.seconds for step in path),
        "minibuild.build.bytes": record.bytes,
    }
    build = tracer.start_span(
        "minibuild build", parent, attributes=attributes, start_time=_nanoseconds(record.started)
    )
    inside = set_span_in_context(build, parent)
    for step in record.steps:
        start = record.started + step.start
        span = tracer.start_span(
            step.name.split("\n", 1)[0],
            inside,
            attributes=_of_step(step, step in path),
            start_time=_nanoseconds(start),
        )
        _end(span, step.error, start + step.seconds)
    _end(build, record.error, record.started + record.seconds)


def _of_step(step: StepRow, critical: bool) -> dict[str, _Value]:
    found: dict[str, _Value] = {
        "minibuild.step.stage": step.stage,
        "minibuild.step.number": step.number,
        "minibuild.step.instruction": step.instruction,
        "minibuild.step.key": step.key,
        "minibuild.step.cached": step.hit,
        "minibuild.step.critical": critical,
        "minibuild.step.saved_seconds": step.saved,
        "minibuild.step.bytes": step.bytes,
        "minibuild.step.diff_id": step.diff_id,
    }
    if step.origin:
        found["minibuild.step.origin"] = step.origin
    if step.cause is not None:
        found["minibuild.step.cause"] = step.cause.kind
        found["minibuild.step.reason"] = step.cause.reason
        found["minibuild.step.details"] = tuple(step.cause.details)
    return found


def _end(span: Span, error: str, moment: float) -> None:
    from opentelemetry.trace import StatusCode

    if error:
        span.set_status(StatusCode.ERROR, error)
    span.end(_nanoseconds(moment))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
