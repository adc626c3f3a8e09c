"""The exact distribution of the evidence where each unit is worse (+1), the same (0) or better (−1).

`betting` takes 1 over the wealth for a p-value, whatever the distribution; of three values the chance to win as much
can be computed, as in Barnard's exact test of two shares (Biometrika 1947).

Legend: N = units, K = stakes, G = shares of better units looked at.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.stats.betting import log_factors, mix

FINER = 8  # steps of a deviation, at a second look
REACH = 8.0  # standard deviations beyond which a count is not looked at: their chance is below 1e-15
ROUNDING = 1e-9  # of sums of logs that are the same
BETWEEN = 1.01  # a grid of 60 steps a deviation never found more than 1.005 times as much


@dataclass(frozen=True)
class Region:
    """The outcomes that speak at least as strongly against the null as one that was seen."""

    rows: int  # N
    worst: NDArray[np.int64]  # [N + 1], by the count of better units: the largest count of worse ones; −1: none


@functools.lru_cache(maxsize=256)
def region(rows: int, worse: int, better: int, margin: float) -> Region:
    """The outcomes whose wealth, bet against `margin`, is at least that of `worse` and `better` units among `rows`.

    Wealth falls with every unit that turns worse: each count of better ones has a largest count of worse ones.
    """
    lost, kept, won = log_factors(np.array([1.0, 0.0, -1.0]), margin)  # [K] each

    def wealth(plus: NDArray[np.int64], minus: NDArray[np.int64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            losses = np.where(plus[:, None] > 0, plus[:, None] * lost, 0.0)  # 0 · −∞: nothing is lost
        return mix(losses + minus[:, None] * won + (rows - plus - minus)[:, None] * kept)

    def at_most(level: float) -> NDArray[np.int64]:
        """The largest count of worse units with which some stake's wealth is `level`, by the count of better ones."""
        left = minus[:, None] * won + (rows - minus[:, None]) * kept - level
        return np.asarray(np.where(left < 0, -1, np.floor(left / (kept - lost))).max(axis=1), dtype=np.int64)

    minus = np.arange(rows + 1)
    seen = float(wealth(np.array([worse]), np.array([better]))[0]) - ROUNDING
    # the mean over the stakes lies between the largest wealth and a share of it: little is left to bisect
    low = np.clip(at_most(seen + np.log(len(kept))) - 1, -1, rows - minus)
    high = np.clip(at_most(seen) + 1, -1, rows - minus)
    while (low < high).any():
        middle = (low + high + 1) // 2  # never −1 where low < high
        inside = wealth(np.maximum(middle, 0), minus) >= seen
        low, high = np.where(inside | (low == high), middle, low), np.where(inside | (low == high), high, middle - 1)
    return Region(rows, low)


def chance(found: Region, margin: float) -> float:
    """The largest probability of the region under a distribution over −1, 0, 1 whose mean is at least `margin`.

    A unit that turns better keeps an outcome inside, so that the largest is at a mean of `margin`. It is looked for
    over the share of better units: in steps of one standard deviation of the units' sum, then in eighths where the
    share is small, which makes the probability ragged, and about the largest. It falls as `margin` rises.
    """
    # the deviation is √(N·(margin + 2·share)): even steps of that root are even steps in deviations
    start = float(np.sqrt(margin))
    coarse, step = np.linspace(start, 1.0, int(np.ceil((1 - start) * np.sqrt(found.rows))) + 2, retstep=True)
    first = _probabilities(found, margin, coarse)
    peak = coarse[first.argmax()]
    fine = np.linspace(-step, step, 2 * FINER + 1)
    others = np.concatenate([start + step + fine, start + 3 * step + fine, peak + fine])
    largest = max(first.max(), _probabilities(found, margin, np.clip(others, start, 1.0)).max())
    return float(min(BETWEEN * largest, 1.0))


def _probabilities(found: Region, margin: float, roots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the region [G], where the mean is `margin` and the share of better units is (roots² − margin) / 2."""
    from scipy.special import bdtr, gammaln, xlog1py, xlogy

    rows = found.rows
    better = np.clip((roots**2 - margin) / 2, 0, (1 - margin) / 2)  # [G]
    reach = REACH * (np.sqrt(rows * better * (1 - better)) + 1)
    low = np.floor(np.clip(rows * better - reach, 0, rows)).astype(np.int64)
    high = np.ceil(np.clip(rows * better + reach, 0, rows)).astype(np.int64)
    point = np.repeat(np.arange(len(roots)), high - low + 1)  # each count that is looked at, one after the other
    begins = np.cumsum(high - low + 1) - (high - low + 1)
    minus = np.arange(len(point)) - begins[point] + low[point]
    worst, others, share = found.worst[minus], rows - minus, better[point]
    logs = gammaln(rows + 1) - gammaln(minus + 1) - gammaln(others + 1) + xlogy(minus, share) + xlog1py(others, -share)
    worse = np.minimum((share + margin) / (1 - share), 1.0)  # the share of worse units among the others
    below = np.where(worst >= 0, bdtr(np.maximum(worst, 0).astype(np.float64), others, worse), 0.0)
    return np.asarray(np.bincount(point, weights=np.exp(logs) * below, minlength=len(roots)), dtype=np.float64)
