"""Measurements made up for tests of what is decided upon them."""

from __future__ import annotations

from lnmt.optimization.candidate import Candidate, Figure, Latency, Measurement, Parity
from lnmt.stats.bootstrap import Interval


def measured(
    candidate: Candidate,
    median: float,
    *,
    low: float = 1.5,
    flips: int = 0,
    loss: float = 0.0,
    megabytes: float = 10.0,
    p99: float | None = None,
    memory: float | None = 100.0,
    final: bool = True,
) -> Measurement:
    """A measurement at batch sizes 1 and 4 beside a reference of 10 ms; `low`: where the speed-up's interval begins."""
    median_figure = _figure(median, low)
    latency = Latency(8, median_figure, _figure(median if p99 is None else p99, low), median_figure)
    return Measurement(
        candidate,
        megabytes=megabytes,
        memory_mb=memory if final else None,
        parity=Parity("labels", 1000, flips, flips / 1000, "macro_f1", 0.7 - loss, loss, max_difference=0.1),
        latency={1: latency, 4: latency} if final else {1: latency},
        final=final,
    )


def _figure(ms: float, low: float) -> Figure:
    return Figure(ms, Interval(ms, ms), 10 / ms, Interval(low, low + 1))
