from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lnmt.observability.tracing import NOTHING, OFF, asked, process_tracing

OFF_IN_A_PROCESS = """
import sys
from lnmt.observability.tracing import OFF, process_tracing
import lnmt.serving.app, lnmt.tracing

class Engine:
    def infer(self, batch):
        return batch

engine = lnmt.tracing.instrument_model(Engine())
tracing = process_tracing()
assert tracing is OFF and engine.infer(3) == 3
with tracing.request("POST", [(b"traceparent", b"00-%s-%s-01" % (b"1" * 32, b"2" * 16))]) as span:
    waited = [(tracing.current(), 0.0)]
    span.answered("/predict", 200)
with tracing.batch(waited, rows=1), tracing.span("engine"):
    pass
tracing.close()
print([name for name in sys.modules if name.partition(".")[0] == "opentelemetry"])
"""


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "sentiment"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
    ],
)
def test_the_environment_turns_traces_on(environment: dict[str, str], on: bool) -> None:
    assert asked(environment) == on


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", OFF_IN_A_PROCESS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_off_what_waits_is_not_even_looked_at() -> None:
    def waited() -> Iterator[tuple[object | None, float]]:
        raise AssertionError("somebody looked")
        yield None, 0.0

    assert OFF.batch(waited(), rows=1) is NOTHING
    assert OFF.request("GET", []) is OFF.span("engine") is NOTHING
    assert (NOTHING.traceparent, OFF.current()) == (None, None)


def test_an_error_passes_through_what_is_off() -> None:
    with pytest.raises(ValueError, match="mine"), NOTHING:
        raise ValueError("mine")


def test_the_process_has_one() -> None:
    assert process_tracing() is process_tracing()
