"""Traces: what became of a request, and where its time went. Off unless the environment asks for them.

The variables are OpenTelemetry's own: an OTLP endpoint or OTEL_TRACES_EXPORTER turns them on,
OTEL_SDK_DISABLED off again. Off, nothing of OpenTelemetry is imported, and every method here is empty.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from types import TracebackType
from typing import Self

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"

Headers = Iterable[tuple[bytes, bytes]]  # of an ASGI scope
Figure = str | int | float | bool  # what a span may carry; never the text of a request


class Span:
    """A piece of work, while it is in a `with`; this one is recorded nowhere."""

    __slots__ = ()

    @property
    def traceparent(self) -> str | None:
        """The header by which whoever gets it goes on with this trace (W3C Trace Context); None where there is none."""
        return None

    def answered(self, route: str, status: int) -> None:
        """Tell a request's route, as a template, and its status."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; an error that leaves is told by its type alone."""


NOTHING = Span()


class Tracing:
    """Traces that are off. `lnmt.observability.opentelemetry` has those that are on."""

    on = False

    def request(self, method: str, headers: Headers) -> Span:
        """The span of an HTTP request, which goes on with the caller's trace where the headers tell of one."""
        return NOTHING

    def current(self) -> object | None:
        """What this task or thread works on: to be kept with what waits, for `batch`."""
        return None

    def batch(self, waited: Iterable[tuple[object | None, float]], **figures: Figure) -> Span:
        """The span of a batch, linked to those of its requests, each of which gets one of its time in the queue.

        `waited`: for each text what `current` gave, and when it was admitted, in seconds of time.monotonic().
        """
        return NOTHING

    def span(self, name: str, **figures: Figure) -> Span:
        """The span of any other work, within the one that this task or thread is in."""
        return NOTHING

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what is left; after `timeout_s` it is given up."""


OFF = Tracing()


def asked(environment: Mapping[str, str]) -> bool:
    """Whether these variables turn traces on."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get(EXPORTER, "").strip().lower()
    return exporter != "none" and bool(exporter or any(environment.get(name) for name in ENDPOINTS))


@cache
def process_tracing() -> Tracing:
    """The traces of this process, as its environment, or a provider that it set before the first call, asks for.

    Raises LnmtError where the exporter that the environment names is not installed.
    """
    if asked(os.environ):
        from lnmt.observability.opentelemetry import OpenTelemetry

        return OpenTelemetry.from_environment()
    if "opentelemetry.sdk.trace" in sys.modules:
        from lnmt.observability.opentelemetry import OpenTelemetry

        return OpenTelemetry.of_process() or OFF
    return OFF
