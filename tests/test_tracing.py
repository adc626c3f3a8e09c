from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lnmt import Model
from lnmt.errors import LnmtError
from lnmt.observability.opentelemetry import OpenTelemetry
from lnmt.runtime.predictor import Predictor
from lnmt.tracing import instrument_model
from tests.tiny_bundle import tiny_bundle

BY_ENVIRONMENT = """
from opentelemetry import trace
from lnmt.tracing import instrument_model

class Plain:
    def predict(self, texts):
        return len(texts)

@instrument_model
class TracedModel(Plain):
    def predict(self, texts):
        with trace.get_tracer(__name__).start_as_current_span("model_predict"):
            return super().predict(texts)

assert TracedModel().predict(["very private"]) == 1
"""


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = OpenTelemetry(provider)
    monkeypatch.setattr("lnmt.tracing.process_tracing", lambda: tracing)
    yield exporter
    tracing.close()


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def test_a_class_of_models_is_traced_and_its_base_is_not(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "bundle", seed=0).path

    @instrument_model
    class TracedModel(Model):
        """Answers as its base does."""

    assert TracedModel.__name__ == "TracedModel"
    traced, plain = TracedModel(path), Model(path)
    assert traced.predict(["a good film"])[0].label == plain.predict(["a good film"])[0].label
    assert names(exporter) == ["TracedModel.predict"]
    assert "film" not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_predictor_and_its_engine_are_traced(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    predictor = Predictor.open(tiny_bundle(tmp_path / "bundle", seed=0), threads=1)
    instrument_model(predictor.engine)
    assert instrument_model(predictor) is predictor
    predictor.predict(["a good film"], 8)
    inner, outer = exporter.get_finished_spans()
    assert (outer.name, inner.name) == ("Predictor.predict", f"{type(predictor.engine).__name__}.infer")
    context = outer.get_span_context()
    assert inner.parent is not None
    assert context is not None
    assert inner.parent.span_id == context.span_id
    predictor.close()


def test_a_module_of_torch_is_traced(exporter: InMemorySpanExporter) -> None:
    import torch

    module = instrument_model(torch.nn.Linear(2, 1))
    assert module(torch.zeros(3, 2)).shape == (3, 1)
    assert names(exporter) == ["Linear.forward"]


def test_an_error_passes_through(exporter: InMemorySpanExporter) -> None:
    class Broken:
        def infer(self, batch: Any) -> None:
            raise ValueError("very private")

    with pytest.raises(ValueError, match="private"):
        instrument_model(Broken()).infer(0)
    [span] = exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "private" not in span.to_json()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(LnmtError, match="nothing to trace") as caught:
        instrument_model(object())
    assert caught.value.allowed == "a model with one of forward, infer, predict, generate"


def test_the_environment_turns_it_on() -> None:
    """The specification's example, as a program, with the exporter that needs no package."""
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "mine"}
    done = subprocess.run(
        [sys.executable, "-c", BY_ENVIRONMENT], env=environment, capture_output=True, text=True, check=True
    )
    assert "private" not in done.stdout + done.stderr
    decoder, rest, spans = json.JSONDecoder(), done.stdout.strip(), []
    while rest:
        span, end = decoder.raw_decode(rest)
        spans.append(span)
        rest = rest[end:].strip()
    inner, outer = spans
    assert (inner["name"], outer["name"]) == ("model_predict", "TracedModel.predict")
    assert inner["parent_id"] == outer["context"]["span_id"]
    assert outer["resource"]["attributes"]["service.name"] == "mine"
