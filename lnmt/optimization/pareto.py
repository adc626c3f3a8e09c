"""The candidates that no other one beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

from lnmt.optimization.candidate import Measurement


def pareto_front(entries: Sequence[Measurement], batch_size: int) -> list[Measurement]:
    """Those of `entries`, the reference among them, that none dominates: by speed, loss of the metric, and size.

    Speeds are compared as speed-ups over the reference, which stood beside each. In the order of `entries`.
    """
    points = [(entry, _point(entry, batch_size)) for entry in entries if entry.parity is not None and entry.latency]
    return [entry for entry, point in points if not any(_dominates(other, point) for _, other in points)]


def _point(entry: Measurement, batch_size: int) -> tuple[float, float, float]:
    """What one wants least of."""
    assert entry.parity is not None, "only what was measured stands here"
    assert entry.megabytes is not None, "what was measured was weighed"
    return 1 / entry.latency[batch_size].p50.speedup, entry.parity.metric_loss, entry.megabytes


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
