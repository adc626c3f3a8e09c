"""Do scores mean what they say? Confidence against what came true.

Legend: N = rows, C = classes, J = decisions of a row, `bins` = bins of equal width over 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.training.metrics.base import divide

RELIABILITY_BINS = 15  # as in Guo et al. 2017


@dataclass(frozen=True)
class ReliabilityBin:
    """Decisions whose confidence lies in (low, high]."""

    low: float
    high: float
    rows: int
    confidence: float  # mean; 0 without rows
    accuracy: float  # share that is right; 0 without rows


def decision_bins(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = RELIABILITY_BINS
) -> list[ReliabilityBin]:
    """Decisions by their confidence, both [N]."""
    places = confidence_bin(confidence, bins)
    rows = np.bincount(places, minlength=bins)
    mean_confidence = divide(np.bincount(places, weights=confidence, minlength=bins), rows)
    mean_right = divide(np.bincount(places, weights=right, minlength=bins), rows)
    return [
        ReliabilityBin(index / bins, (index + 1) / bins, int(rows[index]), float(mean_confidence[index]), float(share))
        for index, share in enumerate(mean_right)
    ]


def reliability_bins(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.int64], bins: int = RELIABILITY_BINS
) -> list[ReliabilityBin]:
    """The likeliest label of each row: scores [N, C] sum to 1, labels [N] are class places."""
    return decision_bins(scores.max(axis=1).astype(np.float64), scores.argmax(axis=1) == labels, bins)


def bin_gaps(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = RELIABILITY_BINS
) -> NDArray[np.float64]:
    """What each row adds to Σ (right − confidence) of each bin: both [N, J] → [N, bins]."""
    rows = len(confidence)
    places = confidence_bin(confidence.astype(np.float64), bins) + np.arange(rows)[:, None] * bins
    gaps = np.bincount(places.ravel(), weights=(right - confidence).ravel(), minlength=rows * bins)
    return gaps.reshape(rows, bins).astype(np.float64)  # of no rows bincount makes integers


def expected_calibration_error(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.int64], bins: int = RELIABILITY_BINS
) -> float:
    """ECE of Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3; scores [N, C], labels [N].

    The mean of |accuracy − confidence| over the bins, weighted by their rows; 0 without rows.
    """
    return decision_error(reliability_bins(scores, labels, bins)) if len(scores) else 0.0


def decision_error(found: list[ReliabilityBin]) -> float:
    """The same of bins that are there."""
    rows = sum(entry.rows for entry in found)
    return sum(entry.rows * abs(entry.accuracy - entry.confidence) for entry in found) / max(rows, 1)


def confidence_bin(confidence: NDArray[np.floating[Any]], bins: int) -> NDArray[np.int64]:
    """The bin (low, high] of each confidence; rounding may leave one a hair outside 0…1."""
    places: NDArray[np.int64] = np.ceil(confidence * bins).astype(np.int64) - 1
    return np.clip(places, 0, bins - 1)
