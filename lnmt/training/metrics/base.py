"""What every task's metrics have in common, so that one bootstrap and one validation pass serve all.

Legend: N = rows, D = numbers of a row, Q = statistics, M = metrics, `...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK_VALUES = 2_000_000  # statistics held at once: 16 MB
Values = NDArray[np.floating[Any]]


class TaskMetrics(ABC):
    """The metrics of one task and label set.

    A row of a split is D numbers: what was asked and what was answered. Its Q statistics are such
    that those of several rows add up, and every metric is a function of their sums.
    """

    names: tuple[str, ...]  # M, in the order of `metrics`
    width: int  # D
    size: int  # Q
    # Labels with figures of their own; how often each was right, actual and predicted stands first in the statistics.
    scored: Sequence[str] = ()

    @abstractmethod
    def statistics(self, rows: Values) -> NDArray[np.float64]:
        """[N, D] → [N, Q]."""

    @abstractmethod
    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of statistics [..., Q] → [..., M]; 0 where a metric is not defined."""

    def coarse(self, rows: Values) -> Values:
        """Rows [N, D], those alike that a bootstrap need not tell apart: fewer distinct ones cost less."""
        return rows

    @property
    def compared(self) -> TaskMetrics:
        """The metrics that baselines have too; they read the first `compared.width` numbers of a row."""
        return self

    def total(self, rows: Values) -> NDArray[np.float64]:
        """The sums [Q] over rows [N, D], a block at a time."""
        block = max(1, BLOCK_VALUES // self.size)
        found = np.zeros(self.size)
        for start in range(0, len(rows), block):
            found += self.statistics(rows[start : start + block]).sum(axis=0)
        return found

    def points(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Metrics by name, from the sums [Q]."""
        return dict(zip(self.names, self.metrics(sums).tolist(), strict=True))


def divide(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Quotient, 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), np.asarray(denominator, np.float64))
    quotient: NDArray[np.float64] = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return quotient
