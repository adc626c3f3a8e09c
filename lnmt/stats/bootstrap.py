"""Bootstrap intervals for anything that can be computed from counts of cells.

Drawing N rows with replacement and then counting them by cell is one draw from a multinomial over
the cells (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, §6): a thousand samples cost
as much for a million rows as for a thousand, and no row is looked at again.

Legend: K = cells, S = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 4_000_000  # float64 counts drawn at once


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends belong to it."""

    low: float
    high: float

    def as_list(self) -> list[float]:
        """[low, high], for JSON."""
        return [self.low, self.high]


def cells(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of `codes` [N, D] and how often each occurs: [K, D] and [K]."""
    kept, counts = np.unique(codes, axis=0, return_counts=True)
    return kept, counts.astype(np.int64)


def resample(counts: NDArray[np.int64], samples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Counts of `samples` bootstrap samples, [S, K], each of as many rows as `counts` [K] holds."""
    total = int(counts.sum())
    if total == 0:
        return np.zeros((samples, len(counts)), dtype=np.int64)
    return rng.multinomial(total, counts / total, size=samples).astype(np.int64)


def bootstrap(
    counts: NDArray[np.int64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """`statistic` of every bootstrap sample, [S, ...]; it takes counts [s, K] and gives [s, ...].

    Samples are drawn in blocks, so that memory stays near 32 MB however many cells there are.
    """
    block = max(1, BLOCK_VALUES // max(len(counts), 1))
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    return np.concatenate([statistic(resample(counts, size, rng).astype(np.float64)) for size in sizes])


def percentile_interval(values: NDArray[np.floating[Any]], confidence: float) -> Interval:
    """The middle `confidence` of the bootstrap values [S] (Efron & Tibshirani 1993, §13.3).

    For shares, F1 and their differences: right where the statistic is nearly unbiased.
    """
    low, high = np.quantile(values, _tails(confidence))
    return Interval(float(low), float(high))


def basic_interval(
    estimate: float, values: NDArray[np.floating[Any]], confidence: float, *, minimum: float, maximum: float
) -> Interval:
    """The percentile interval mirrored at the estimate, cut to what is possible (Davison & Hinkley 1997, §5.2.1).

    For statistics that sampling pushes one way: a mean of absolute differences, such as the ECE, is
    biased upwards in the sample and once more in its bootstrap; the mirror takes that bias off,
    where the percentile interval would add it a second time. Simulated with 400 rows at 95 %: it holds
    the truth 95 times of 100 where the ECE is 0.26, and 66 times at the boundary, where it is 0 (the
    percentile interval: never).
    """
    low, high = np.quantile(values, _tails(confidence))
    return Interval(
        float(np.clip(2 * estimate - high, minimum, maximum)), float(np.clip(2 * estimate - low, minimum, maximum))
    )


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
