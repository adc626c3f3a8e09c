"""Metrics of single labels, in numpy, exact, and written over counts so that a bootstrap can use them too.

Legend: N = rows, C = classes, Q = statistics, M = metrics, `...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnmt.errors import UnknownName
from lnmt.training.metrics.base import TaskMetrics, Values, divide
from lnmt.training.metrics.names import label_metric_names
from lnmt.training.metrics.reliability import RELIABILITY_BINS, bin_gaps, confidence_bin

STEPS_PER_BIN = 40  # rows of one bin whose confidences are nearer than 1/(15·40) share a bootstrap cell


def encode(values: Sequence[Hashable], classes: Sequence[Hashable], *, where: object = "metrics") -> NDArray[np.int64]:
    """Each value's place in `classes`, [N]. Raises UnknownName for a value outside of it, found at `where`."""
    places = {name: index for index, name in enumerate(classes)}
    try:
        return np.array([places[value] for value in values], dtype=np.int64)
    except KeyError as error:
        raise UnknownName("label", str(error.args[0]), map(str, classes), where=where) from error


def confusion_matrix(actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Rows by (actual, predicted), [C, C], from places in the class list, both [N]."""
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def accuracy(hits: ArrayLike, actual: ArrayLike) -> NDArray[np.float64]:
    """Share of rows that are right [...], from rows right and rows per actual class, both [..., C]."""
    return divide(np.sum(hits, axis=-1), np.sum(actual, axis=-1))


def class_rates(
    hits: ArrayLike, actual: ArrayLike, guessed: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall, F1, each [..., C], from rows right, per actual and per predicted class; 0 where undefined."""
    return (
        divide(hits, guessed),
        divide(hits, actual),
        divide(2 * np.asarray(hits), np.asarray(actual) + np.asarray(guessed)),
    )


def macro_f1(hits: ArrayLike, actual: ArrayLike, guessed: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 [...] over the classes that occur in the rows or among the predictions.

    A class with neither has no F1: counting it as 0 would punish a slice for what it does not hold.
    """
    occurs = (np.asarray(actual) + np.asarray(guessed)) > 0
    f1 = class_rates(hits, actual, guessed)[2]
    return divide(f1.sum(axis=-1), occurs.sum(axis=-1))


class LabelMetrics(TaskMetrics):
    """accuracy, macro_f1, and precision, recall, F1 of each label; rows are (actual, predicted), places in `labels`."""

    width = 2

    def __init__(self, labels: Sequence[str]) -> None:
        self.scored = tuple(labels)
        self.size = 3 * len(self.scored)
        self.names = ("accuracy", "macro_f1", *label_metric_names(self.scored))

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """Right rows, actual rows, predicted rows of each label: [N, 3C] of 0 and 1."""
        each = np.eye(len(self.scored))
        actual, predicted = each[rows[:, 0].astype(np.int64)], each[rows[:, 1].astype(np.int64)]
        return np.concatenate([actual * predicted, actual, predicted], axis=1)

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, actual, guessed = np.split(sums[..., : 3 * len(self.scored)], 3, axis=-1)
        whole = np.stack([accuracy(hits, actual), macro_f1(hits, actual, guessed)], axis=-1)
        return np.concatenate([whole, *class_rates(hits, actual, guessed)], axis=-1)

    def coarse(self, rows: Values) -> Values:
        return rows[:, :2]


class ScoreMetrics(LabelMetrics):
    """These and `ece`; rows are (actual, predicted, confidence)."""

    width = 3

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self.size += RELIABILITY_BINS
        self.names = (*self.names, "ece")

    @staticmethod
    def rows(actual: NDArray[np.int64], scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Rows [N, 3] from the labels' places [N] and scores [N, C] that sum to 1."""
        return np.stack([actual, scores.argmax(axis=1), scores.max(axis=1)], axis=1).astype(np.float64)

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """[N, 3C + bins]."""
        gaps = bin_gaps(rows[:, 2:3], (rows[:, 0] == rows[:, 1])[:, None])
        return np.concatenate([super().statistics(rows), gaps], axis=1)

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = sums[..., len(self.scored) : 2 * len(self.scored)].sum(axis=-1)
        ece = divide(np.abs(sums[..., -RELIABILITY_BINS:]).sum(axis=-1), rows)
        return np.concatenate([super().metrics(sums), ece[..., None]], axis=-1)

    def coarse(self, rows: Values) -> Values:
        steps = RELIABILITY_BINS * STEPS_PER_BIN
        middle = (confidence_bin(rows[:, 2], steps) + 0.5) / steps
        return np.column_stack([rows[:, :2], middle])

    @property
    def compared(self) -> TaskMetrics:
        """Baselines give labels, no scores."""
        return LabelMetrics(self.scored)
