"""How far columns moved, and how far chance alone would move them.

Legend: N = rows of the window, M = rows of the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NULL_SAMPLES = 200
NULL_QUANTILE = 0.99
SMALLEST_SPREAD = 0.001  # Evidently's floor for a reference without spread


def distance(current: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> float:
    """First Wasserstein distance of [N] to [M], in standard deviations of the reference (as Evidently has it)."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(reference, current)) / max(float(np.std(reference)), SMALLEST_SPREAD)


def chance_distance(reference: NDArray[np.floating[Any]], rows: int, seed: int) -> float:
    """The distance that 1 % of windows of `rows` rows exceed although nothing changed.

    Window and reference are both drawn with replacement from the reference (a two-sample bootstrap
    under the null, Efron & Tibshirani 1993, §16.2). A fixed limit knows nothing of the window's
    size: 0.1 alarms falsely at 200 rows and is right at 1,000.
    """
    rng = np.random.default_rng(seed)
    ordered = np.sort(reference)
    drawn = [distance(rng.choice(ordered, rows), rng.choice(ordered, len(ordered))) for _ in range(NULL_SAMPLES)]
    return float(np.quantile(drawn, NULL_QUANTILE))
