"""Traces of the real app: a request's way to the engine, and nothing of what it said."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lnmt.bundles import Bundle
from lnmt.observability.opentelemetry import OpenTelemetry
from tests.serving.conftest import Kit, MakeKit

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = OpenTelemetry(provider)
    for module in ("guard", "live"):
        monkeypatch.setattr(f"lnmt.serving.{module}.process_tracing", lambda: tracing)
    return exporter


@pytest.fixture
def traced(exporter: InMemorySpanExporter, make_kit: MakeKit, champion: Bundle) -> Kit:
    kit = make_kit()
    assert kit.release(1, champion)
    return kit


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def test_a_request_is_followed_to_the_engine(traced: Kit, exporter: InMemorySpanExporter) -> None:
    reply = traced.client.post("/predict", json={"text": ["okay", "fine"]}, headers={"traceparent": CALLER})
    spans = by_name(exporter)
    assert spans.keys() == {"POST /predict", "queue", "batch", "engine"}
    request, queue, batch, engine = (spans[name] for name in ("POST /predict", "queue", "batch", "engine"))
    assert reply.headers["traceparent"] == f"00-0af7651916cd43dd8448eb211c80319c-{span_id(request):016x}-01"
    assert queue.parent is not None
    assert queue.parent.span_id == span_id(request)
    assert [link.context.span_id for link in batch.links] == [span_id(request)]
    assert engine.parent is not None
    assert engine.parent.span_id == span_id(batch)
    assert (engine.attributes or {})["lnmt.rows"] == (queue.attributes or {})["lnmt.rows"] == 2
    assert (engine.attributes or {})["lnmt.padded_tokens"] == (batch.attributes or {})["lnmt.padded_tokens"]


def test_nothing_of_a_request_is_in_its_spans(traced: Kit, exporter: InMemorySpanExporter) -> None:
    for path in ("/predict", "/predict?private=1", "/v2/models/private/infer", "/private"):
        traced.client.post(path, json={"text": "very private", "user": "private"}, headers={"x-private": "private"})
    traced.client.request("PRIVATE", "/predict")
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "/predict" in told
    assert "private" not in told.lower()
