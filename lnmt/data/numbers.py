"""The numbers of a regression's labels, described in bounded memory.

Legend: N = numbers of a call, K = numbers kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 65_536  # at most this many stand for all in quantiles and histogram
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20


class Numbers:
    """Count, extremes, mean and deviation of all numbers; quantiles and histogram of an even sample of them.

    The sample is every number until KEPT are held, then every second, every fourth …: no chance in it. Mean and
    deviation are updated as in Chan, Golub & LeVeque, Updating Formulae, 1979.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self._mean = self._squares = 0.0
        self._kept: NDArray[np.float64] = np.empty(0)
        self._stride = 1

    def add(self, values: NDArray[np.float64]) -> None:
        """Count finite numbers [N]."""
        if not len(values):
            return
        self.minimum, self.maximum = min(self.minimum, float(values.min())), max(self.maximum, float(values.max()))
        mean, number = float(values.mean()), self.rows + len(values)
        apart = mean - self._mean
        self._squares += float(((values - mean) ** 2).sum()) + apart**2 * self.rows * len(values) / number
        self._mean += apart * len(values) / number
        self._kept = np.concatenate([self._kept, values[-self.rows % self._stride :: self._stride]])
        self.rows = number
        while len(self._kept) > KEPT:
            self._kept = self._kept[::2]
            self._stride *= 2

    @property
    def vary(self) -> bool:
        """Whether two of them differ."""
        return self.minimum < self.maximum

    @property
    def different(self) -> int:
        """How many differ in the sample; at least 2 where any two differ."""
        return max(len(np.unique(self._kept)), 2 if self.vary else 0)

    def summary(self) -> dict[str, Any]:
        """As JSON values: minimum, maximum, mean, deviation, quantiles by share, histogram. {} without numbers."""
        if not self.rows:
            return {}
        counts, edges = np.histogram(self._kept, BINS if self.vary else 1)
        shares = counts / len(self._kept)
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self._mean,
            "deviation": math.sqrt(self._squares / self.rows),
            "quantiles": {str(share): float(np.quantile(self._kept, share)) for share in QUANTILES},
            "histogram": [
                {"from": float(low), "to": float(high), "share": float(share)}
                for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
            ],
        }
