"""Evidence that a mean of bounded numbers is below a margin, by betting against the opposite.

A gambler who holds that the mean of d in [−1, 1] is below the margin m puts up the share c of what can be lost on every
unit: the wealth is multiplied by 1 + c·(m − d)/(1 − m), which is never negative and, where the mean is m or more, does
not grow in expectation. Wealth is then evidence (Waudby-Smith & Ramdas, Estimating means of bounded random variables by
betting, JRSS-B 2024, §4), and so is its mean over several stakes.

Legend: N = units, K = stakes, `...` = any leading dimensions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STAKES = np.arange(1, 11) / 10  # [K], shares of what can be lost; mixed evenly, so that the data choose among them


def log_factors(differences: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """log of what a unit multiplies each stake's wealth by: [...] → [..., K]. `margin` is below 1.

    Only the last stake can be lost as a whole (−∞): by a unit of 1.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(STAKES * np.maximum((margin - differences) / (1 - margin), -1.0)[..., None]))


def mix(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the mean wealth over the stakes, from log wealths [..., K] of which the first is finite: [...]."""
    top = logs.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).mean(axis=-1)))


def betting_p_value(differences: NDArray[np.float64], margin: float) -> float:
    """The p-value of H0 "the mean is at least `margin`": 1 over the largest wealth on the way through
    `differences` [N].

    It holds its level for every N and every distribution over [−1, 1] (Ville 1939), where the units are drawn
    independently and their order does not depend on them. It falls as the margin rises, and as any difference falls.
    """
    wealth = mix(np.cumsum(log_factors(differences, margin), axis=0))
    return min(1.0, math.exp(-float(wealth.max(initial=0.0))))
