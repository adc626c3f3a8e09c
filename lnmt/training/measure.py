"""Metrics with bootstrap intervals, of a model alone and against a baseline on the same rows.

Legend: N = rows, D = numbers of a row, K = distinct rows, Q = statistics, S = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.params import EvaluateParams
from lnmt.stats.bootstrap import Interval, basic_interval, bootstrap_sums, cells, percentile_interval
from lnmt.training.metrics.base import TaskMetrics, Values
from lnmt.training.metrics.names import higher_is_better


@dataclass(frozen=True)
class Measured:
    """Metrics by name, each with its interval."""

    rows: int
    points: dict[str, float]
    intervals: dict[str, Interval]
    support: dict[str, int]  # rows or entities of each label that has figures of its own


@dataclass(frozen=True)
class Comparison:
    """A baseline on the model's test rows, and what the model gains over it."""

    name: str
    baseline: Measured
    gains: dict[str, float]  # by how much the model is better: model − baseline, or the reverse where lower is better
    gain_intervals: dict[str, Interval]  # of the paired difference


def measure(metrics: TaskMetrics, rows: Values, params: EvaluateParams) -> Measured:
    """The metrics of rows [N, D]."""
    sums = metrics.total(rows)
    points = metrics.points(sums)
    kept, counts = cells(np.asarray(metrics.coarse(rows), dtype=np.float64))
    drawn = bootstrap_sums(
        counts,
        lambda part: metrics.statistics(kept[part]),
        params.bootstrap_samples,
        np.random.default_rng(params.seed),
    )
    values = dict(zip(metrics.names, metrics.metrics(drawn).T, strict=True))
    return Measured(len(rows), points, _intervals(values, points, params.confidence), _support(metrics, sums))


def compare(name: str, metrics: TaskMetrics, model: Values, baseline: Values, params: EvaluateParams) -> Comparison:
    """A baseline's metrics and the paired differences; `model` and `baseline` are the same rows' [N, D].

    Both are resampled together, row by row, so that what is hard for both cancels.
    """
    pairs = np.column_stack([metrics.coarse(model), metrics.coarse(baseline)]).astype(np.float64)
    kept, counts = cells(pairs)
    first, second = np.split(kept, 2, axis=1)
    sums = bootstrap_sums(
        counts,
        lambda part: np.concatenate([metrics.statistics(first[part]), metrics.statistics(second[part])], axis=1),
        params.bootstrap_samples,
        np.random.default_rng(params.seed),
    )
    of_model, of_baseline = (metrics.metrics(half).T for half in np.split(sums, 2, axis=1))
    total = metrics.total(baseline)
    points, best = metrics.points(total), metrics.points(metrics.total(model))
    signs = {metric: 1 if higher_is_better(metric) else -1 for metric in metrics.names}
    gains = {metric: signs[metric] * (best[metric] - points[metric]) for metric in metrics.names}
    gained = {
        metric: signs[metric] * (own - other)
        for metric, own, other in zip(metrics.names, of_model, of_baseline, strict=True)
    }
    values = dict(zip(metrics.names, of_baseline, strict=True))
    return Comparison(
        name,
        Measured(len(baseline), points, _intervals(values, points, params.confidence), _support(metrics, total)),
        gains,
        {metric: percentile_interval(found, params.confidence) for metric, found in gained.items()},
    )


def _intervals(
    values: Mapping[str, NDArray[np.float64]], points: Mapping[str, float], confidence: float
) -> dict[str, Interval]:
    return {
        name: basic_interval(points[name], found, confidence, minimum=0.0, maximum=1.0)
        if name == "ece"
        else percentile_interval(found, confidence)
        for name, found in values.items()
    }


def _support(metrics: TaskMetrics, sums: NDArray[np.float64]) -> dict[str, int]:
    count = len(metrics.scored)
    return {label: int(found) for label, found in zip(metrics.scored, sums[count : 2 * count], strict=True)}
