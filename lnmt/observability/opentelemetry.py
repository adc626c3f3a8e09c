"""Traces that are on: OpenTelemetry's SDK, imported only where the environment asks for it.

A request's span, such as `POST /predict`, has one of its time in the `queue`. A `batch` has one of its `engine`. A
batch serves several requests: it stands in the trace of one and is linked to all of them, and the span of each
one's time in the queue is linked to the batch that ended it (OpenTelemetry specification: Links between spans).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import TracebackType
from typing import Self

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

import lnmt
from lnmt.errors import LnmtError
from lnmt.observability.series import METHODS
from lnmt.observability.tracing import EXPORTER, NOTHING, Figure, Headers, Span, Tracing

PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}  # the exporters' entry points
PROTOCOL = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Recorded(Span):
    """A span of OpenTelemetry, current within its `with`."""

    __slots__ = ("_context", "_method", "_span", "_token")

    def __init__(self, span: trace.Span, context: Context | None = None, method: str = "") -> None:
        self._span = span
        self._context = trace.set_span_in_context(span, context)
        self._method = method

    @property
    def traceparent(self) -> str | None:
        own = self._span.get_span_context()
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"

    def answered(self, route: str, status: int) -> None:
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._failed(str(status))

    def __enter__(self) -> Self:
        self._token = contexts.attach(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        contexts.detach(self._token)
        if isinstance(error, Exception):  # a cancelled request is no failure
            self._failed(type(error).__name__)
        self._span.end()

    def _failed(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))  # without a message, which might quote the request


@dataclass
class _Waited:
    """The texts of one request in a batch."""

    request: SpanContext
    admitted: float  # the first of them, in monotonic seconds
    rows: int = 0


class OpenTelemetry(Tracing):
    """Traces by a provider of OpenTelemetry's SDK."""

    on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("lnmt", lnmt.__version__)

    @classmethod
    def of_process(cls) -> Self | None:
        """By the provider that this process has set; None where it has none."""
        provider = trace.get_tracer_provider()
        return cls(provider) if isinstance(provider, TracerProvider) else None

    @classmethod
    def from_environment(cls) -> Self:
        """By the process's provider, or a new one, which then is the process's: spans of plugins join the trace."""
        tracing = cls.of_process()
        if tracing is None:
            provider = make_provider()
            trace.set_tracer_provider(provider)
            tracing = cls(provider)
        return tracing

    def request(self, method: str, headers: Headers) -> Span:
        carrier: dict[str, list[str]] = {}
        for key, value in headers:
            carrier.setdefault(key.decode("latin-1"), []).append(value.decode("latin-1"))
        context = propagate.extract(carrier)
        known = method in METHODS
        attributes = {"http.request.method": method if known else "_OTHER"}
        name = method if known else "HTTP"
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        return Recorded(span, context, name)

    def current(self) -> object | None:
        own = trace.get_current_span().get_span_context()
        return own if own.is_valid else None

    def batch(self, waited: Iterable[tuple[object | None, float]], **figures: Figure) -> Span:
        now, now_ns = time.monotonic(), time.time_ns()
        requests: dict[int, _Waited] = {}
        for request, admitted in waited:
            if isinstance(request, SpanContext):
                seen = requests.setdefault(request.span_id, _Waited(request, admitted))
                seen.admitted = min(seen.admitted, admitted)
                seen.rows += 1
        if not requests:
            return NOTHING
        recorded = [seen for seen in requests.values() if seen.request.trace_flags.sampled]
        home = (recorded or list(requests.values()))[0].request  # recorded where one of its requests is
        links = [Link(seen.request) for seen in recorded]
        span = self._tracer.start_span("batch", _within(home), attributes=_attributes(figures), links=links)
        for seen in recorded:
            queue = self._tracer.start_span(
                "queue",
                _within(seen.request),
                attributes=_attributes({"rows": seen.rows}),
                links=[Link(span.get_span_context())],
                start_time=now_ns - round((now - seen.admitted) * 1e9),
            )
            queue.end(now_ns)
        return Recorded(span)

    def span(self, name: str, **figures: Figure) -> Span:
        return Recorded(self._tracer.start_span(name, attributes=_attributes(figures)))

    def close(self, timeout_s: float = 5.0) -> None:
        sender = threading.Thread(target=self._provider.shutdown, name="traces-last", daemon=True)
        sender.start()
        sender.join(timeout_s)


def make_provider() -> TracerProvider:
    """A provider by the OTEL_* variables: sampler, limits and resource are the SDK's to read, exporters are found here.

    Raises LnmtError for an exporter that is not installed, or a protocol that none speaks.
    """
    exporters = [_exporter(name.strip()) for name in (os.environ.get(EXPORTER) or "otlp").split(",")]
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "lnmt"}))
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str) -> SpanExporter:
    wanted = name
    if name == "otlp":
        variable = next((variable for variable in PROTOCOL if os.environ.get(variable)), PROTOCOL[-1])
        protocol = os.environ.get(variable) or "http/protobuf"  # the specification's default
        if protocol not in PROTOCOLS:
            fix = "choose an allowed one, or leave it out"
            raise LnmtError(
                "unknown protocol", where=variable, value=protocol, allowed=", ".join(sorted(PROTOCOLS)), fix=fix
            )
        wanted = PROTOCOLS[protocol]
    installed = entry_points(group="opentelemetry_traces_exporter")
    for entry in installed.select(name=wanted):
        exporter: SpanExporter = entry.load()()
        return exporter
    raise LnmtError(
        "no such exporter of traces is installed",
        where=EXPORTER,
        value=wanted,
        allowed=", ".join(sorted(installed.names)),
        fix="pip install 'lnmt[otel]', which brings otlp over HTTP; or turn traces off: OTEL_TRACES_EXPORTER=none",
    )


def _within(parent: SpanContext) -> Context:
    """A context in which `parent`, of another thread, is the current span."""
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _attributes(figures: dict[str, Figure]) -> dict[str, Figure]:
    return {f"lnmt.{name}": value for name, value in figures.items()}
