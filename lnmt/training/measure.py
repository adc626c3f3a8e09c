"""Metrics with bootstrap intervals, of a model alone and against a baseline on the same rows.

Legend: N = rows, C = classes, K = distinct cells of rows, S = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.params import EvaluateParams
from lnmt.stats.bootstrap import Interval, basic_interval, bootstrap, cells, percentile_interval
from lnmt.training.metrics import (
    RELIABILITY_BINS,
    accuracy,
    class_rates,
    confidence_bin,
    confusion_matrix,
    confusion_metrics,
    expected_calibration_error,
    macro_f1,
)

STEPS_PER_BIN = 40  # rows of one bin whose confidences are nearer than 1/(15·40) share a bootstrap cell


@dataclass(frozen=True)
class Measured:
    """Metrics by name (`accuracy`, `macro_f1`, `ece`, `f1.<label>`, …), each with its interval."""

    rows: int
    points: dict[str, float]
    intervals: dict[str, Interval]
    confusion: NDArray[np.int64]  # [C, C], actual by predicted


def rate_names(classes: Sequence[str]) -> list[str]:
    """The metrics that need predicted labels alone, in the order of `_rates`."""
    return ["accuracy", "macro_f1", *(f"{kind}.{name}" for kind in ("precision", "recall", "f1") for name in classes)]


def metric_names(classes: Sequence[str]) -> list[str]:
    """Every metric of the model that a gate may name."""
    return [*rate_names(classes), "ece"]


def measure(
    labels: NDArray[np.int64], scores: NDArray[np.floating[Any]], classes: Sequence[str], params: EvaluateParams
) -> Measured:
    """The model's metrics on rows with places `labels` [N] and calibrated `scores` [N, C]."""
    predicted = scores.argmax(axis=1)
    confidence = scores.max(axis=1).astype(np.float64)
    confusion = confusion_matrix(labels, predicted, len(classes))
    fine = confidence_bin(confidence, RELIABILITY_BINS * STEPS_PER_BIN)
    kept, counts = cells(np.stack([labels, predicted, fine], axis=1))
    bins = np.eye(RELIABILITY_BINS)[kept[:, 2] // STEPS_PER_BIN]  # [K, bins]
    # A row's part in its bin's |accuracy − confidence|; the cell's middle stands for its confidence.
    gaps = ((kept[:, 0] == kept[:, 1]) - (kept[:, 2] + 0.5) / (RELIABILITY_BINS * STEPS_PER_BIN))[:, None] * bins
    groups = _indicators(kept[:, 0], kept[:, 1], len(classes))

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        ece = np.abs(weights @ gaps).sum(axis=1, keepdims=True) / max(len(labels), 1)
        return np.concatenate([_rates(weights, *groups), ece], axis=1)

    values = bootstrap(counts, statistic, params.bootstrap_samples, np.random.default_rng(params.seed))
    names = rate_names(classes)
    points = _points(confusion, classes) | {"ece": expected_calibration_error(scores, labels)}
    intervals = _intervals(names, values, params.confidence)
    intervals["ece"] = basic_interval(points["ece"], values[:, -1], params.confidence, minimum=0.0, maximum=1.0)
    return Measured(len(labels), points, intervals, confusion)


@dataclass(frozen=True)
class Comparison:
    """A baseline on the model's test rows, and what the model gains over it."""

    name: str
    baseline: Measured  # without `ece`: baselines give labels, no scores
    gains: dict[str, float]  # model − baseline
    gain_intervals: dict[str, Interval]  # of the paired difference


def compare(
    name: str,
    labels: NDArray[np.int64],
    model: NDArray[np.int64],
    baseline: NDArray[np.int64],
    classes: Sequence[str],
    params: EvaluateParams,
) -> Comparison:
    """A baseline's metrics and the paired differences; `labels`, `model`, `baseline` are places [N].

    Both are resampled together, row by row, so that what is hard for both cancels.
    """
    kept, counts = cells(np.stack([labels, model, baseline], axis=1))
    first = _indicators(kept[:, 0], kept[:, 1], len(classes))
    second = _indicators(kept[:, 0], kept[:, 2], len(classes))

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([_rates(weights, *first), _rates(weights, *second)], axis=1)

    values = bootstrap(counts, statistic, params.bootstrap_samples, np.random.default_rng(params.seed))
    names = rate_names(classes)
    of_model, of_baseline = values[:, : len(names)], values[:, len(names) :]
    confusion = confusion_matrix(labels, baseline, len(classes))
    points = _points(confusion, classes)
    best = _points(confusion_matrix(labels, model, len(classes)), classes)
    return Comparison(
        name,
        Measured(len(labels), points, _intervals(names, of_baseline, params.confidence), confusion),
        {metric: best[metric] - points[metric] for metric in names},
        _intervals(names, of_model - of_baseline, params.confidence),
    )


Indicators = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _indicators(actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Indicators:
    """Which cell counts as right, as actual and as predicted for which class; three [K, C] of 0 and 1."""
    of_actual, of_predicted = np.eye(classes)[actual], np.eye(classes)[predicted]
    return of_actual * of_predicted, of_actual, of_predicted


def _rates(
    weights: NDArray[np.float64], hits: NDArray[np.float64], actual: NDArray[np.float64], guessed: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The metrics of `rate_names` for each sample's cell counts `weights` [S, K]; [S, 2 + 3C]."""
    counts = weights @ hits, weights @ actual, weights @ guessed
    whole = np.stack([accuracy(*counts[:2]), macro_f1(*counts)], axis=1)
    return np.concatenate([whole, *class_rates(*counts)], axis=1)


def _points(confusion: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    found = confusion_metrics(confusion, classes)
    by_class = {
        f"{kind}.{name}": found["per_class"][name][kind] for kind in ("precision", "recall", "f1") for name in classes
    }
    return {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"], **by_class}


def _intervals(names: Sequence[str], values: NDArray[np.float64], confidence: float) -> dict[str, Interval]:
    return {name: percentile_interval(values[:, index], confidence) for index, name in enumerate(names)}
