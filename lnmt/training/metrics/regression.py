"""Metrics of numbers.

Legend: N = rows, Q = statistics, M = metrics, `...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnmt.training.metrics.base import TaskMetrics, Values, divide

SMALLEST = 1e-12  # of a variance, as a share of the mean square: less is rounding


class NumberMetrics(TaskMetrics):
    """mae, rmse, r2, pearson.

    `r2` = 1 − Σ(actual − predicted)² / Σ(actual − mean of the actual)², `pearson` the correlation; each is 0 where
    the variance is that it divides by.
    """

    names = ("mae", "rmse", "r2", "pearson")
    width = 2
    size = 8

    @staticmethod
    def rows(actual: Values, predicted: Values, centre: float) -> NDArray[np.float64]:
        """Rows [N, 2] from both [N].

        No metric changes where `centre` is taken off both, and a small variance beside a large mean would be
        lost in rounding: give the mean of the actual ones.
        """
        return np.stack([actual, predicted], axis=1).astype(np.float64) - centre

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """1, |error|, error², y, y², p, p², y·p: [N, 8]."""
        actual, predicted = np.asarray(rows, dtype=np.float64).T
        error = actual - predicted
        return np.column_stack(
            [
                np.ones(len(rows)),
                np.abs(error),
                error**2,
                actual,
                actual**2,
                predicted,
                predicted**2,
                actual * predicted,
            ]
        )

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = sums[..., :1]
        absolute, squared, actual, actual2, guessed, guessed2, both = np.moveaxis(divide(sums[..., 1:], rows), -1, 0)
        spread = _variance(actual, actual2)
        of_guessed = _variance(guessed, guessed2)
        r2 = np.where(spread > 0, 1 - divide(squared, spread), 0.0)
        pearson = divide(both - actual * guessed, np.sqrt(spread * of_guessed))
        return np.stack([absolute, np.sqrt(squared), r2, np.clip(pearson, -1, 1)], axis=-1)


def _variance(mean: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
    found = square - mean**2
    return np.where(found > SMALLEST * square, found, 0.0)
