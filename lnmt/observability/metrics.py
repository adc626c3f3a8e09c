"""Metrics: what the service counts and times, by small methods for the hot path.

`labels()` of prometheus_client costs more than `inc()`: what is counted for every request keeps the
series that it found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from lnmt.observability.processes import WorkerFigures
from lnmt.observability.series import METHODS, OTHER, Lookup, Outcome, Part, Series
from lnmt.observability.workers import DIRECTORY, settled

CONTENT_TYPE = CONTENT_TYPE_LATEST
CPU_EVERY_S = 0.1
Key = TypeVar("Key")
Found = TypeVar("Found")


class Kept(dict[Key, Found]):
    """Series by their labels, each looked up once. Keys must be bounded, as the series are."""

    def __init__(self, find: Callable[[Key], Found]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: Key) -> Found:
        found = self[key] = self._find(key)
        return found


class EngineMetrics:
    """The series of one model on one engine, for the thread that runs its batches."""

    def __init__(self, series: Series, model: str, engine: str) -> None:
        self._releases = Kept[str, Counter](lambda reason: series.batch_releases.labels(model, reason))
        self._queue = series.queue_seconds.labels(model)
        self._rows = series.batch_rows.labels(model)
        self._tokens = series.batch_tokens.labels(model)
        self._of_texts = series.tokens.labels(model, "text")
        self._of_padding = series.tokens.labels(model, "padding")
        self._seconds = series.engine_seconds.labels(model, engine)

    def observe_release(self, reason: str, ages_s: Iterable[float]) -> None:
        """Count a batch that leaves the queue; `ages_s`: seconds since each of its texts was admitted."""
        self._releases[reason].inc()
        for age_s in ages_s:
            self._queue.observe(age_s)

    def observe_batch(self, rows: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Count a batch that the engine ran; `padded_tokens`: all that it computed, `tokens`: those of texts."""
        self._rows.observe(rows)
        self._tokens.observe(padded_tokens)
        self._of_texts.inc(tokens)
        self._of_padding.inc(padded_tokens - tokens)
        self._seconds.observe(seconds)


class Metrics(Series):
    """One process's figures. With `PROMETHEUS_MULTIPROC_DIR` set, `render` adds up all workers of the service.

    That variable must be set before prometheus_client is imported. `core_hour_price`: money for an hour of one core.
    """

    def __init__(self, core_hour_price: float = 0.0) -> None:
        # when a series began: twice the lines, and nobody asks
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__()
        self.core_hour_price.set(core_hour_price)
        self._cpu_s, self._cpu_at = time.process_time(), 0.0
        self._requests = Kept[tuple[str, str, int], Counter](lambda key: self.requests.labels(*key))
        self._request_seconds = Kept[str, Histogram](self.request_seconds.labels)
        self._predictions = Kept[tuple[str, str, str], Counter](lambda key: self.predictions.labels(*key))
        self._cpu_seconds = Kept[str, Counter](self.cpu_seconds.labels)
        self._lookups = Kept[tuple[str, str], Counter](lambda key: self.cache_lookups.labels(*key))

    def engine(self, model: str, engine: str) -> EngineMetrics:
        """The series of one model on one engine."""
        return EngineMetrics(self, model, engine)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `route` is a template of our own; `method` is made one of the known."""
        self._requests[route, method if method in METHODS else OTHER, status].inc()
        self._request_seconds[route].observe(seconds)

    def observe_answers(self, model: str, arm: str, outcome: Outcome, texts: int = 1) -> None:
        """Count texts of one request, and at times the CPU that the process took since. Called by one thread."""
        self._predictions[model, arm, outcome].inc(texts)
        if (now := time.monotonic()) >= self._cpu_at:  # the kernel adds up all threads: not for every request
            self._cpu_at = now + CPU_EVERY_S
            before, self._cpu_s = self._cpu_s, time.process_time()
            self._cpu_seconds[model].inc(self._cpu_s - before)

    def observe_lookup(self, model: str, outcome: Lookup) -> None:
        """Count what the cache had for a text."""
        self._lookups[model, outcome].inc()

    def observe_load(self, model: str, seconds: float | None) -> None:
        """Count a bundle loaded and warmed up in `seconds`; None where that failed."""
        self.loads.labels(model, "failed" if seconds is None else "loaded").inc()
        if seconds is not None:
            self.load_seconds.labels(model).observe(seconds)

    def observe_append(self, size: int, seconds: float) -> None:
        """Count `size` bytes of events on their way to the spool."""
        self.event_bytes.inc(size)
        self.event_append_seconds.observe(seconds)

    def observe_compaction(self, seconds: float, sizes: dict[Part, int]) -> None:
        """Count a move of events into segments; `sizes`: bytes that each part of the store then has."""
        self.event_compaction_seconds.observe(seconds)
        for part, size in sizes.items():
            self.event_store_bytes.labels(part).set(size)

    def render(self) -> bytes:
        """The Prometheus text."""
        if DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        everyone.register(WorkerFigures())
        with settled(Path(os.environ[DIRECTORY])):
            return generate_latest(everyone)

    def close(self) -> None:
        """Take this process out of the gauges that count live workers."""
        if DIRECTORY in os.environ:
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
