"""A build's spans, as a collector on this machine gets them over OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from minibuild.cache.builds import critical_path
from tests.feature.project import Project
from tests.report.conftest import TEXT, records
from tests.servers.serving import serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps what it got; answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.status = 200
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server_port}"}

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        import gzip

        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        assert self.path == "/v1/traces"
        self.server.requests.append(ExportTraceServiceRequest.FromString(data))
        self.server.headers.append(dict(self.headers.items()))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    with serving(server):
        yield server


def attributes(span: Any) -> dict[str, Any]:
    def value(one: Any) -> Any:
        kind = one.WhichOneof("value")
        if kind == "array_value":
            return tuple(value(item) for item in one.array_value.values)
        return getattr(one, kind)

    return {pair.key: value(pair.value) for pair in span.attributes}


def test_a_build_is_a_span_and_each_step_one_below_it(project: Project, collector: Collector) -> None:
    project.write("a.txt", "a")
    project.built("--otel", text=TEXT, environment=collector.environment)
    (record,) = records(project)
    build, steps = collector.spans[-1], collector.spans[:-1]
    assert build.name == "minibuild build" and not build.parent_span_id
    assert attributes(build)["minibuild.build.id"] == record.id
    assert attributes(build)["minibuild.build.steps"] == len(record.steps) == 5
    assert build.end_time_unix_nano - build.start_time_unix_nano == pytest.approx(
        record.seconds * 1e9, abs=1e4
    )
    path = critical_path(record)
    for span, step in zip(steps, record.steps, strict=True):
        assert span.parent_span_id == build.span_id and span.trace_id == build.trace_id
        assert span.name == step.name
        assert span.start_time_unix_nano == pytest.approx((record.started + step.start) * 1e9, abs=1e4)
        assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(
            step.seconds * 1e9, abs=1e4
        )
        found = attributes(span)
        assert found["minibuild.step.key"] == step.key
        assert found["minibuild.step.cached"] is False
        assert found["minibuild.step.critical"] is (step in path)
        assert found["minibuild.step.cause"] == "never-built"


def test_the_environment_alone_asks_for_them(project: Project, collector: Collector) -> None:
    more = {"OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret", "OTEL_SERVICE_NAME": "ours"}
    project.built(text="FROM scratch\nWORKDIR /a\n", environment=collector.environment | more)
    (request,) = collector.requests
    assert collector.headers[0]["x-token"] == "secret"
    (resource,) = request.resource_spans
    assert attributes(resource.resource)["service.name"] == "ours"


def test_they_belong_to_the_pipeline_that_calls(project: Project, collector: Collector) -> None:
    parent = {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
    project.built(text="FROM scratch\nWORKDIR /a\n", environment=collector.environment | parent)
    build = collector.spans[-1]
    assert (build.trace_id.hex(), build.parent_span_id.hex()) == (TRACE, PARENT)


def test_a_failed_step_and_its_build_are_marked(project: Project, collector: Collector) -> None:
    done = project.build(text="FROM busybox\nRUN true\nRUN false\n", environment=collector.environment)
    assert done.code == 1
    true, false, build = collector.spans
    assert (true.status.code, false.status.code, build.status.code) == (0, 2, 2)
    assert "exit code: 1" in false.status.message


def test_a_collector_that_refuses_costs_a_warning(project: Project, collector: Collector) -> None:
    collector.status = 400
    done = project.built("--otel", text="FROM scratch\nWORKDIR /a\n", environment=collector.environment)
    assert done.err.count("WARNING: spans were not sent") == 1 and "400" in done.err


def test_they_can_be_switched_off(project: Project, collector: Collector) -> None:
    for off in ({"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}):
        project.built("--otel", text="FROM scratch\nWORKDIR /a\n", environment=collector.environment | off)
    assert not collector.requests


def test_another_protocol_is_an_error_where_spans_were_asked_for(project: Project) -> None:
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    text = "FROM scratch\nWORKDIR /a\n"
    done = project.build("--otel", text=text, environment=grpc)
    assert done.code == 2 and "spans cannot be sent by grpc" in done.error
    assert "WARNING: spans cannot be sent by grpc" in project.built(text=text, environment=grpc).err
