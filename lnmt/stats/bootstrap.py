"""Bootstrap intervals for anything that can be computed from sums over rows.

Drawing N rows with replacement and then counting them by cell is one draw from a multinomial over
the cells (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, §6): a thousand samples cost
as much for a million rows as for a thousand, and no row is looked at again.

Legend: N = rows, D = codes of a row, K = cells, Q = statistics, S = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 4_000_000  # counts drawn at once

T = TypeVar("T", np.int64, np.float64)


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends belong to it."""

    low: float
    high: float

    def as_list(self) -> list[float]:
        """[low, high], for JSON."""
        return [self.low, self.high]


def cells(codes: NDArray[T]) -> tuple[NDArray[T], NDArray[np.int64]]:
    """The distinct rows of `codes` [N, D] and how often each occurs: [K, D] and [K]."""
    kept, counts = np.unique(codes, axis=0, return_counts=True)
    return kept, counts.astype(np.int64)


def bootstrap_sums(
    counts: NDArray[np.int64],
    statistics: Callable[[slice], NDArray[np.float64]],
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The sums of rows' statistics in every bootstrap sample, [S, Q], each of as many rows as `counts` [K] holds.

    `statistics` gives those of the cells in a slice, [k, Q]; each cell is asked for once. Cells are drawn a block at
    a time, a binomial deciding how many rows of a sample fall into the block, so that memory stays near 32 MB
    for the counts and 8·k·Q bytes for the statistics, however many cells there are.
    """
    block = max(1, BLOCK_VALUES // samples)
    left = np.full(samples, int(counts.sum()))  # rows that each sample has yet to draw, from the cells not yet seen
    unseen = int(counts.sum())
    sums: NDArray[np.float64] | None = None
    for start in range(0, max(len(counts), 1), block):
        part = counts[start : start + block]
        rows = int(part.sum())
        drawn = left if rows == unseen else rng.binomial(left, rows / unseen)
        left, unseen = left - drawn, unseen - rows
        alike = len(counts) > block and (part == part[0]).all()
        weights = (_draw_alike(drawn, len(part), rng) if alike else _draw(drawn, part, rng)).astype(np.float64)
        found = weights @ statistics(slice(start, start + len(part)))
        sums = found if sums is None else sums + found
    assert sums is not None, "there is always a block"
    return sums


def _draw(rows: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each of `rows` [S], so many draws from the cells `counts` [k], counted by cell: [S, k]."""
    total = int(counts.sum())
    if total == 0:
        return np.zeros((len(rows), len(counts)), dtype=np.int64)
    return rng.multinomial(rows, counts / total).astype(np.int64)


def _draw_alike(rows: NDArray[np.int64], cells: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The same for cells of one count, a tenth of the time: row by row. Of many rows most are all different."""
    chosen = rng.integers(0, cells, int(rows.sum())) + np.repeat(np.arange(len(rows)) * cells, rows)
    return np.bincount(chosen, minlength=len(rows) * cells).reshape(len(rows), cells)


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
