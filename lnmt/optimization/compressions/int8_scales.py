"""Scales of a group: how much of an activation's outliers its weights take over, and the ranges afterwards.

A channel of an activation that is a hundred times larger than the rest takes all the steps. Divided by s and its
weights multiplied by s, the product is the same and both can be rounded: s = max|x|^a / max|W|^(1−a) of each channel
(SmoothQuant, arXiv 2211.10438). The paper says one a for a whole model; here it is the one that loses least of each
group's own products, on the activations that were seen.

Legend: K = channels, N = outputs, S = sampled token vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.compressions.int8_observe import Observed
from lnmt.optimization.compressions.int8_ranges import (
    Calibration,
    Scale,
    activation_scale,
    quantised,
    weight_scales,
)

ALPHAS = (0.0, 0.5, 0.65, 0.8, 0.9, 0.95)  # tried for each group; 0 stands for none


@dataclass(frozen=True)
class GroupScales:
    """How one group is quantised."""

    alpha: float  # 0 where the activation is taken as it is
    divisor: NDArray[np.float32] | None  # s, [K]
    activation: Scale  # of x / s
    error: float  # of the products, relative, in the sample


def group_scales(
    seen: Observed, weights: Sequence[NDArray[np.float32]], calibration: Calibration, *, symmetric: bool
) -> GroupScales:
    """The best for products of one activation with `weights`, each [K, N]."""
    whole = np.concatenate(weights, axis=1)
    exact = seen.sample @ whole
    return min(
        (_tried(alpha, seen, whole, exact, calibration, symmetric) for alpha in ALPHAS),
        key=lambda scales: scales.error,
    )


def _tried(
    alpha: float,
    seen: Observed,
    weights: NDArray[np.float32],
    exact: NDArray[np.float32],
    calibration: Calibration,
    symmetric: bool,
) -> GroupScales:
    divisor = _divisor(alpha, seen, weights)
    low, high, sample, moved = seen.low, seen.high, seen.sample, weights
    if divisor is not None:
        low, high, sample, moved = low / divisor, high / divisor, sample / divisor, weights * divisor[:, None]
    scale = activation_scale(float(low.min()), float(high.max()), sample, calibration, symmetric=symmetric)
    scales = weight_scales(moved)
    found = scale.rounded(sample) @ (quantised(moved, scales) * scales)
    error = float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-12))
    return GroupScales(alpha, divisor, scale, error)


def _divisor(alpha: float, seen: Observed, weights: NDArray[np.float32]) -> NDArray[np.float32] | None:
    if alpha == 0:
        return None
    sizes = np.maximum(np.maximum(-seen.low, seen.high), 1e-5)
    rows = np.maximum(np.abs(weights).max(axis=1), 1e-5)
    divisor = sizes**alpha / rows ** (1 - alpha)
    even: NDArray[np.float32] = (divisor / np.exp(np.log(divisor).mean())).astype(np.float32)
    return even
