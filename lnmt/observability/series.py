"""Every series of the service, in one table. Label values come from tables of ours, never from requests.

The reference, docs/reference/observability.md, holds the same names, labels and words.
"""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lnmt.observability.processes import WorkerFigures

Outcome = Literal["ok", "error"]  # of one text
Lookup = Literal["hit", "miss", "joined"]  # joined: waited for the same text of another request
Loading = Literal["loaded", "failed"]
Part = Literal["spool", "segments"]  # of the event store

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "OTHER"  # any other method
UNMATCHED = "unmatched"  # the route of a request that no route of ours takes

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_APPEND_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 1)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Series:
    """One process's series: an attribute each, all in `registry`."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(name, says, labels, registry=registry)

        def histogram(name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, says, labels, registry=registry, buckets=buckets)

        def gauge(
            name: str, says: str, workers: Literal["livesum", "livemin", "livemax", "livemostrecent"], *labels: str
        ) -> Gauge:
            return Gauge(name, says, labels, registry=registry, multiprocess_mode=workers)

        # requests
        self.requests = counter("lnmt_requests", "HTTP requests", "route", "method", "status")
        self.request_seconds = histogram("lnmt_request_seconds", "Seconds to answer a request", _SECONDS, "route")
        self.rejections = counter("lnmt_rejections", "Requests refused before the engine", "reason")
        self.rate_fallbacks = counter(
            "lnmt_rate_fallbacks", "Requests whose rate a worker counted alone: the shared store did not answer"
        )

        # answers, and what they cost
        self.predictions = counter("lnmt_predictions", "Texts answered", "model", "arm", "outcome")
        self.withheld = counter(
            "lnmt_withheld", "Texts whose answer a postprocessor withheld", "model", "postprocessor"
        )
        self.cache_lookups = counter("lnmt_cache_lookups", "Texts looked up in the cache", "model", "outcome")
        self.cache_events = counter(
            "lnmt_cache_events", "Answers that the cache could not keep or give, by why", "event"
        )
        self.feedback = counter("lnmt_feedback", "Labels told", "model")
        self.cpu_seconds = counter(
            "lnmt_cpu_seconds",
            "CPU seconds of the workers, user and system, of all their threads, whatever they were spent on, "
            "looked at now and then, for the model that answers then; "
            "times lnmt_core_hour_price / 3600, by lnmt_predictions_total: the cost of a prediction",
            "model",
        )
        self.core_hour_price = gauge(
            "lnmt_core_hour_price", "Money for an hour of one core: LNMT_CORE_HOUR_PRICE, else 0", "livemax"
        )

        # the queue and the batches
        self.waiting_rows = gauge("lnmt_waiting_rows", "Texts accepted and not yet answered", "livesum", "model")
        self.queue_seconds = histogram(
            "lnmt_queue_seconds", "Queue age: seconds of a text from admission to the engine", _SECONDS, "model"
        )
        self.batch_releases = counter(
            "lnmt_batch_releases", "Batches that left the queue, by why they did not wait longer", "model", "reason"
        )
        self.batch_rows = histogram("lnmt_batch_rows", "Texts of an engine's batch", _ROWS, "model")
        self.batch_tokens = histogram(
            "lnmt_batch_tokens", "Tokens of an engine's batch, padding included", _TOKENS, "model"
        )
        self.tokens = counter("lnmt_tokens", "Tokens that engines computed, of texts and of padding", "model", "kind")
        self.engine_seconds = histogram("lnmt_engine_seconds", "Engine seconds of a batch", _SECONDS, "model", "engine")

        # models
        self.generation = gauge(
            "lnmt_generation", "Generation of the deployment that is served; the workers' lowest", "livemin", "model"
        )
        self.loads = counter("lnmt_bundle_loads", "Bundles loaded into an engine", "model", "outcome")
        self.load_seconds = histogram(
            "lnmt_bundle_load_seconds", "Seconds to load a bundle and warm it up", _LOAD_SECONDS, "model"
        )
        self.bundle_bytes = gauge(
            "lnmt_bundle_bytes", "Bytes of the loaded bundles' files, once for each worker", "livesum", "model"
        )

        # the event store
        self.event_bytes = counter("lnmt_event_bytes", "Bytes of events appended to the spool")
        self.event_append_seconds = histogram(
            "lnmt_event_append_seconds",
            "Seconds to append the events of the replies that go out together",
            _APPEND_SECONDS,
        )
        self.event_store_bytes = gauge(
            "lnmt_event_store_bytes", "Bytes of the event store on disk", "livemostrecent", "part"
        )
        self.event_compaction_seconds = histogram(
            "lnmt_event_compaction_seconds", "Seconds to move spooled events into segments", _LOAD_SECONDS
        )

        # the workers' processes
        registry.register(WorkerFigures())
