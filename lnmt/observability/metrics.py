"""Metrics: every series of the service, in one table. Label values come from tables of ours, never from requests."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One process's figures. With `PROMETHEUS_MULTIPROC_DIR` set, `render` adds up all workers of the service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("lnmt_requests", "HTTP requests", ["route", "method", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            "lnmt_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.predictions = Counter(
            "lnmt_predictions", "Texts answered", ["model", "arm", "outcome"], registry=self.registry
        )
        self.engine_seconds = Histogram(
            "lnmt_engine_seconds",
            "Engine time of a batch",
            ["model", "engine"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rejections = Counter(
            "lnmt_rejections", "Requests refused before the engine", ["reason"], registry=self.registry
        )
        self.waiting_rows = Gauge(
            "lnmt_waiting_rows",
            "Texts accepted and not yet answered",
            ["model"],
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.generation = Gauge(
            "lnmt_generation",
            "Generation of the deployment that is served; the lowest of the workers",
            ["model"],
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.loads = Counter(
            "lnmt_bundle_loads", "Bundles loaded into an engine", ["model", "outcome"], registry=self.registry
        )
        self.feedback = Counter("lnmt_feedback", "Labels told", ["model"], registry=self.registry)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `route` is a template of our own; `method` is made one of the known."""
        self.requests.labels(route, method if method in METHODS else "OTHER", str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """The Prometheus text."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)

    def close(self) -> None:
        """Take this process out of the gauges that count live workers."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
