"""The metrics of every task, as functions of labels and predictions.

They are those that training, evaluation and gates compute; definitions: docs/reference/metrics.md. Labels may be any
strings; a metric that is not defined is 0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnmt.errors import LnmtError
from lnmt.training.metrics.base import TaskMetrics
from lnmt.training.metrics.classification import LabelMetrics, confusion_matrix, encode
from lnmt.training.metrics.multi_label import LabelSetMetrics
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.training.metrics.reliability import expected_calibration_error
from lnmt.training.metrics.tags import TagMetrics

__all__ = [
    "accuracy",
    "calibration_error",
    "confusion",
    "label_metrics",
    "label_set_metrics",
    "macro_f1",
    "mae",
    "number_metrics",
    "pearson",
    "perplexity",
    "r2",
    "rmse",
    "tag_metrics",
]


def accuracy(actual: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of rows whose label is right.

    >>> accuracy(["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"])
    0.75
    """
    return label_metrics(actual, predicted)["accuracy"]


def macro_f1(actual: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean F1 of the labels that occur, each counting the same.

    >>> round(macro_f1(["good", "bad", "bad", "bad"], ["good", "good", "bad", "bad"]), 4)
    0.7333
    """
    return label_metrics(actual, predicted)["macro_f1"]


def label_metrics(
    actual: Sequence[str], predicted: Sequence[str], labels: Sequence[str] | None = None
) -> dict[str, float]:
    """accuracy, macro_f1, and precision, recall and F1 of each label (text-classification).

    `labels`: the label set; None: the labels that occur. Raises UnknownName for a label outside of it.

    >>> label_metrics(["good", "bad"], ["good", "good"])["recall.bad"]
    0.0
    """
    names = _label_set(actual, predicted, labels)
    rows = [encode(actual, names, where="actual"), encode(predicted, names, where="predicted")]
    return _points(LabelMetrics(names), np.stack(rows, axis=1).astype(np.float64))


def confusion(actual: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Rows by actual label and predicted one, both in the order of `labels`.

    >>> confusion(["good", "bad", "bad"], ["good", "good", "bad"], labels=["bad", "good"])
    [[1, 1], [0, 1]]
    """
    _check_lengths(actual, predicted)
    found: list[list[int]] = confusion_matrix(
        encode(actual, labels, where="actual"), encode(predicted, labels, where="predicted"), len(labels)
    ).tolist()
    return found


def calibration_error(actual: Sequence[str], scores: Sequence[dict[str, float]]) -> float:
    """ECE of Guo et al., On Calibration of Modern Neural Networks, ICML 2017; `scores`: those of each prediction.

    >>> calibration_error(["good", "bad"], [{"good": 1.0, "bad": 0.0}, {"good": 1.0, "bad": 0.0}])
    0.5
    """
    _check_lengths(actual, scores)
    if not scores:
        return 0.0
    names = list(scores[0])
    table = np.array([[row[name] for name in names] for row in scores], dtype=np.float64)
    return float(expected_calibration_error(table, encode(actual, names, where="actual")))


def label_set_metrics(
    actual: Sequence[Collection[str]], predicted: Sequence[Collection[str]], labels: Sequence[str] | None = None
) -> dict[str, float]:
    """micro_f1, macro_f1, subset_accuracy, hamming_loss, and those of each label (multi-label-classification).

    >>> found = label_set_metrics([{"film"}, {"film", "price"}], [{"film"}, {"film"}])
    >>> found["micro_f1"], found["subset_accuracy"], found["hamming_loss"]
    (0.8, 0.5, 0.25)
    """
    _check_lengths(actual, predicted)
    every = [name for row in (*actual, *predicted) for name in row]
    names = _label_set(every, every, labels)

    def hot(rows: Sequence[Collection[str]], where: str) -> NDArray[np.float64]:
        table = np.zeros((len(rows), len(names)))
        for place, row in enumerate(rows):
            table[place, encode(list(row), names, where=f"{where}, row {place}")] = 1
        return table

    return _points(LabelSetMetrics(names), LabelSetMetrics.rows(hot(actual, "actual"), hot(predicted, "predicted")))


def tag_metrics(
    actual: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], tags: Sequence[str] | None = None
) -> dict[str, float]:
    """micro_f1, precision and recall of entities, token_accuracy, and those of each type (token-classification).

    An entity is right where its first word, last word and type are.

    >>> found = tag_metrics([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]])
    >>> found["micro_f1"], round(found["token_accuracy"], 4)
    (0.0, 0.6667)
    """
    _check_lengths(actual, predicted)
    for one, other in zip(actual, predicted, strict=True):
        _check_lengths(one, other)
    flat = [[tag for row in rows for tag in row] for rows in (actual, predicted)]
    names = _label_set(flat[0], flat[1], tags)
    metrics = TagMetrics(names)
    asked, found = encode(flat[0], names, where="actual"), encode(flat[1], names, where="predicted")
    return _points(metrics, metrics.rows(asked, found, np.array([len(row) for row in actual], dtype=np.int64)))


def mae(actual: ArrayLike, predicted: ArrayLike) -> float:
    """The mean absolute error.

    >>> mae([1.0, 2.0], [1.5, 4.0])
    1.25
    """
    return number_metrics(actual, predicted)["mae"]


def rmse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """The square root of the mean squared error.

    >>> rmse([0.0, 0.0], [3.0, -3.0])
    3.0
    """
    return number_metrics(actual, predicted)["rmse"]


def r2(actual: ArrayLike, predicted: ArrayLike) -> float:
    """The coefficient of determination: 1 is exact, 0 no better than the mean.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    1.0
    """
    return number_metrics(actual, predicted)["r2"]


def pearson(actual: ArrayLike, predicted: ArrayLike) -> float:
    """The linear correlation, −1…1.

    >>> round(pearson([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), 6)
    -1.0
    """
    return number_metrics(actual, predicted)["pearson"]


def number_metrics(actual: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """mae, rmse, r2 and pearson (text-regression).

    >>> sorted(number_metrics([1.0, 2.0], [1.0, 2.0]))
    ['mae', 'pearson', 'r2', 'rmse']
    """
    asked, found = (np.asarray(one, dtype=np.float64).ravel() for one in (actual, predicted))
    _check_lengths(asked, found)
    return _points(NumberMetrics(), NumberMetrics.rows(asked, found, centre=float(asked.mean()) if len(asked) else 0.0))


def perplexity(losses: Sequence[float], tokens: Sequence[int]) -> float:
    """Of texts with these losses in nats a token and this many tokens: `TextPrediction.loss` and `.tokens`.

    >>> round(perplexity([0.0, 0.0], [4, 6]), 6)
    1.0
    """
    _check_lengths(losses, tokens)
    total = sum(tokens)
    return float(np.exp(np.dot(losses, tokens) / total)) if total else 0.0


def _points(metrics: TaskMetrics, rows: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.points(metrics.total(rows)).items()}


def _label_set(actual: Sequence[str], predicted: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    _check_lengths(actual, predicted)
    return sorted({*actual, *predicted}) if labels is None else list(labels)


def _check_lengths(
    actual: Sequence[object] | NDArray[np.float64], predicted: Sequence[object] | NDArray[np.float64]
) -> None:
    if len(actual) != len(predicted):
        raise LnmtError(
            "not as many predictions as rows",
            where="lnmt.metrics",
            value=f"{len(predicted)} and {len(actual)}",
            fix="give one prediction for each row, in the same order",
        )
