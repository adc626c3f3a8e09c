from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from lnmt.errors import LnmtError
from lnmt.observability.opentelemetry import OpenTelemetry, make_provider
from lnmt.observability.tracing import NOTHING, Span

CALLER = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> OpenTelemetry:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetry(provider)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan) -> set[tuple[int, int]]:
    return {(link.context.trace_id, link.context.span_id) for link in span.links}


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


async def serve(tracing: OpenTelemetry, headers: Sequence[Sequence[tuple[bytes, bytes]]], texts: int = 1) -> list[str]:
    """Requests at once, the texts of all in one batch run by another thread; gives each one's traceparent."""
    everybody, answered = asyncio.Barrier(len(headers) + 1), asyncio.Event()
    waiting: list[tuple[object | None, float]] = []

    async def request(own: Sequence[tuple[bytes, bytes]]) -> str:
        with tracing.request("POST", own) as span:
            waiting.extend((tracing.current(), time.monotonic()) for _ in range(texts))
            await everybody.wait()
            await answered.wait()
            span.answered("/predict", 200)
            return str(span.traceparent)

    def run() -> None:
        with tracing.batch(waiting, reason="full", rows=len(waiting)):
            with tracing.span("engine", engine="torch", rows=len(waiting), tokens=64):
                pass
            assert tracing.current() is not None
        assert tracing.current() is None

    tasks = [asyncio.create_task(request(own)) for own in headers]
    await everybody.wait()
    await asyncio.to_thread(run)
    answered.set()
    return await asyncio.gather(*tasks)


def test_a_batch_is_linked_to_its_requests_and_they_to_it(
    tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    asyncio.run(serve(tracing, [[], [], []], texts=2))
    requests, queues = named(exporter, "POST /predict"), named(exporter, "queue")
    [batch], [engine] = named(exporter, "batch"), named(exporter, "engine")
    assert linked(batch) == {ids(span) for span in requests}
    assert len({ids(span)[0] for span in requests}) == 3  # traces of their own
    assert parent(batch) in linked(batch)
    assert parent(engine) == ids(batch)
    assert {parent(span) for span in queues} == {ids(span) for span in requests}
    assert all(linked(span) == {ids(batch)} for span in queues)
    assert [dict(span.attributes or {}) for span in queues] == [{"lnmt.rows": 2}] * 3
    assert dict(batch.attributes or {}) == {"lnmt.reason": "full", "lnmt.rows": 6}
    assert dict(engine.attributes or {}) == {"lnmt.engine": "torch", "lnmt.rows": 6, "lnmt.tokens": 64}


def test_the_spans_of_a_request_are_in_the_order_of_time(
    tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    asyncio.run(serve(tracing, [[]]))
    [request], [queue] = named(exporter, "POST /predict"), named(exporter, "queue")
    [batch], [engine] = named(exporter, "batch"), named(exporter, "engine")
    slack = 1_000_000  # ns between two looks at two clocks
    assert request.start_time is not None
    assert queue.start_time is not None
    assert queue.end_time is not None
    assert batch.start_time is not None
    assert batch.end_time is not None
    assert engine.end_time is not None
    assert request.end_time is not None
    assert request.start_time - slack <= queue.start_time <= queue.end_time
    assert queue.end_time - slack <= batch.start_time <= engine.end_time <= batch.end_time <= request.end_time


def test_a_trace_comes_in_and_goes_out(tracing: OpenTelemetry, exporter: InMemorySpanExporter) -> None:
    [out] = asyncio.run(serve(tracing, [[CALLER, (b"tracestate", b"vendor=value")]]))
    [request] = named(exporter, "POST /predict")
    assert parent(request) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert request.kind == SpanKind.SERVER
    context = request.get_span_context()
    assert context is not None
    assert context.trace_state["vendor"] == "value"
    assert out == f"00-0af7651916cd43dd8448eb211c80319c-{ids(request)[1]:016x}-01"
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize("value", [b"", b"00-0-0-01", b"\xff\x00\n", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_traceparent_that_is_none_begins_a_trace(
    tracing: OpenTelemetry, exporter: InMemorySpanExporter, value: bytes
) -> None:
    with tracing.request("GET", [(b"traceparent", value)]) as span:
        span.answered("/livez", 200)
    [request] = exporter.get_finished_spans()
    assert request.parent is None


def test_what_the_caller_does_not_record_is_not_recorded(
    tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    [out] = asyncio.run(serve(tracing, [[UNSAMPLED]]))
    assert out.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert out.endswith("-00")
    assert exporter.get_finished_spans() == ()


def test_a_batch_is_recorded_where_one_of_its_requests_is(
    tracing: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    asyncio.run(serve(tracing, [[UNSAMPLED], [CALLER]]))
    [request], [batch] = named(exporter, "POST /predict"), named(exporter, "batch")
    assert (parent(batch), linked(batch)) == (ids(request), {ids(request)})
    assert len(named(exporter, "queue")) == len(named(exporter, "engine")) == 1


def test_a_batch_of_nobody_has_no_span(tracing: OpenTelemetry) -> None:
    assert tracing.batch([(None, time.monotonic())], rows=1) is NOTHING


def test_the_environments_sampler_decides_where_no_caller_does(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    asyncio.run(serve(OpenTelemetry(provider), [[], [CALLER]]))
    assert len(named(exporter, "POST /predict")) == len(named(exporter, "batch")) == 1


def test_an_error_is_told_by_its_type_alone(tracing: OpenTelemetry, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="private"), tracing.span("engine"):
        raise ValueError("very private")
    with tracing.request("POST", []) as span:
        span.answered("/predict", 503)
    with pytest.raises(asyncio.CancelledError), tracing.span("cancelled"):
        raise asyncio.CancelledError
    engine, request, cancelled = exporter.get_finished_spans()
    assert (engine.attributes or {})["error.type"] == "ValueError"
    assert (request.attributes or {})["error.type"] == "503"
    assert [span.status.status_code for span in (engine, request, cancelled)] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert engine.events == request.events == ()
    assert "private" not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_forged_method_and_a_path_stay_outside(tracing: OpenTelemetry, exporter: InMemorySpanExporter) -> None:
    with tracing.request("very private", [(b"host", b"private"), (b"x-request-id", b"private")]) as span:
        span.answered("unmatched", 404)
    [request] = exporter.get_finished_spans()
    assert (request.name, (request.attributes or {})["http.request.method"]) == ("HTTP unmatched", "_OTHER")
    assert "private" not in request.to_json()


@pytest.mark.parametrize(
    ("variables", "value", "allowed"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin", "console"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"}, "carrier pigeon", "grpc, http/protobuf"),
    ],
)
def test_an_exporter_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], value: str, allowed: str
) -> None:
    for name, given in variables.items():
        monkeypatch.setenv(name, given)
    with pytest.raises(LnmtError) as caught:
        make_provider()
    assert caught.value.value == value
    assert allowed in str(caught.value.allowed)
    assert caught.value.fix


# --- over the wire


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of OTLP over HTTP: its address, and the requests that came, decoded."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, dict(self.headers), ExportTraceServiceRequest.FromString(body)))
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", received
        finally:
            server.shutdown()
            thread.join()


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch, collector: tuple[str, list[Any]]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    address, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    tracing = OpenTelemetry(make_provider())
    asyncio.run(serve(tracing, [[CALLER], []]))
    tracing.close(30)
    assert {path for path, _, _ in received} == {"/v1/traces"}
    assert all(headers["authorization"] == "secret" for _, headers, _ in received)
    resources = [resource for _, _, request in received for resource in request.resource_spans]
    about = {pair.key: pair.value.string_value for pair in resources[0].resource.attributes}
    assert (about["service.name"], about["deployment.environment.name"]) == ("lnmt", "test")
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert sorted(span.name for span in spans) == [
        "POST /predict",
        "POST /predict",
        "batch",
        "engine",
        "queue",
        "queue",
    ]
    [batch] = [span for span in spans if span.name == "batch"]
    requests = {(span.trace_id, span.span_id) for span in spans if span.name == "POST /predict"}
    assert {(link.trace_id, link.span_id) for link in batch.links} == requests


def test_a_collector_that_is_away_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    tracing = OpenTelemetry(make_provider())
    span: Span
    with tracing.request("GET", []) as span:
        span.answered("/livez", 200)
    tracing.close(0.01)  # comes back; the test's own bound on time says whether it does
    for thread in threading.enumerate():  # its retries draw from `random`, which Hypothesis forbids to others meanwhile
        if thread.name == "traces-last":
            thread.join()
