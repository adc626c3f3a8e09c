"""Metrics of rows that have any number of labels.

Legend: N = rows, C = labels, Q = statistics, M = metrics, `...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.training.metrics.base import TaskMetrics, Values, divide
from lnmt.training.metrics.classification import class_rates, macro_f1
from lnmt.training.metrics.names import label_metric_names
from lnmt.training.metrics.reliability import RELIABILITY_BINS, bin_gaps

THRESHOLD = 0.5  # a row has the labels that are as likely as not, or likelier


class LabelSetMetrics(TaskMetrics):
    """micro_f1, macro_f1, subset_accuracy, hamming_loss, and precision, recall, F1 of each label.

    A row is its C labels as 0 or 1, then the score of each. `subset_accuracy`: the share of rows
    whose labels are all right; `hamming_loss`: the share of the N·C decisions that are wrong.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.scored = tuple(labels)
        self.width = 2 * len(self.scored)
        self.size = 3 * len(self.scored) + 2
        self.names = ("micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", *label_metric_names(self.scored))

    @staticmethod
    def rows(actual: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Rows [N, 2C] from what is there and what it is given, both [N, C]."""
        return np.concatenate([actual, scores], axis=1).astype(np.float64)

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """Right, actual and predicted ones of each label, whether all are right, and 1: [N, 3C + 2]."""
        actual, scores = np.split(np.asarray(rows, dtype=np.float64), 2, axis=1)
        predicted = (scores >= THRESHOLD).astype(np.float64)
        exact = (actual == predicted).all(axis=1).astype(np.float64)
        return np.column_stack([actual * predicted, actual, predicted, exact, np.ones(len(rows))])

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        count = len(self.scored)
        hits, actual, guessed = np.split(sums[..., : 3 * count], 3, axis=-1)
        exact, rows = sums[..., 3 * count], sums[..., 3 * count + 1]
        wrong = (actual + guessed - 2 * hits).sum(axis=-1)
        micro = divide(2 * hits.sum(axis=-1), (actual + guessed).sum(axis=-1))
        whole = [micro, macro_f1(hits, actual, guessed), divide(exact, rows), divide(wrong, rows * count)]
        return np.concatenate([np.stack(whole, axis=-1), *class_rates(hits, actual, guessed)], axis=-1)

    def coarse(self, rows: Values) -> Values:
        actual, scores = np.split(rows, 2, axis=1)
        return np.concatenate([actual, scores >= THRESHOLD], axis=1)


class LabelSetScoreMetrics(LabelSetMetrics):
    """These and `ece`, over the N·C decisions: the score of a label against how often it is there."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self.size += RELIABILITY_BINS
        self.names = (*self.names, "ece")

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """[N, 3C + 2 + bins]."""
        actual, scores = np.split(rows, 2, axis=1)
        return np.concatenate([super().statistics(rows), bin_gaps(scores, actual > 0)], axis=1)

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        decisions = sums[..., 3 * len(self.scored) + 1] * len(self.scored)
        ece = divide(np.abs(sums[..., -RELIABILITY_BINS:]).sum(axis=-1), decisions)
        return np.concatenate([super().metrics(sums), ece[..., None]], axis=-1)

    def coarse(self, rows: Values) -> Values:
        return rows

    @property
    def compared(self) -> TaskMetrics:
        """Baselines give labels, no scores."""
        return LabelSetMetrics(self.scored)
