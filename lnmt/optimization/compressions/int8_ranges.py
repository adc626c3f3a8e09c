"""The range of values that 256 steps are spread over.

Legend: K = channels, N = outputs, S = sampled token vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Calibration = Literal["minmax", "percentile", "entropy"]
CALIBRATIONS: tuple[Calibration, ...] = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99
BINS, STEPS = 2048, 128  # of the histogram of |x|, and of what is left of it (NVIDIA's calibrator)


@dataclass(frozen=True)
class Scale:
    """x ≈ scale · (q − zero), with q in −128…127 where symmetric, else in 0…255."""

    scale: float
    zero: int
    symmetric: bool

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """`values` as 8 bits give them back."""
        least, most = (-128, 127) if self.symmetric else (0, 255)
        steps = np.clip(np.rint(values / np.float32(self.scale)) + self.zero, least, most)
        found: NDArray[np.float32] = ((steps - self.zero) * np.float32(self.scale)).astype(np.float32)
        return found


def activation_scale(
    low: float, high: float, sample: NDArray[np.float32], calibration: Calibration, *, symmetric: bool
) -> Scale:
    """Of an activation in `low`…`high` with these sampled values; 0 is always exact."""
    if calibration == "percentile":
        tail = (100 - PERCENTILE) / 2
        low, high = (float(value) for value in np.percentile(sample, [tail, 100 - tail]))
    elif calibration == "entropy":
        most = entropy_threshold(np.abs(sample))
        low, high = max(low, -most), min(high, most)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        return Scale(max(-low, high) / 127 or 1.0, 0, True)
    scale = (high - low) / 255 or 1.0
    return Scale(scale, int(np.clip(round(-low / scale), 0, 255)), False)


def entropy_threshold(sizes: NDArray[np.float32]) -> float:
    """The |x| at which cutting off loses least information, by the divergence KL(P‖Q) of the histogram cut there.

    Migacz, "8-bit inference with TensorRT", GTC 2017.
    """
    most = float(sizes.max(initial=0.0))
    if most == 0:
        return 0.0
    counts = np.histogram(sizes, bins=BINS, range=(0.0, most))[0].astype(np.float64)
    counts[0] = counts[1]  # exact zeros of padding and ReLU would outweigh everything
    ends = range(STEPS, BINS + 1, STEPS // 8)
    return min(ends, key=lambda end: _divergence(counts, end)) * most / BINS


def weight_scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N], symmetric, of [K, N]: −127…127, so that the sign of a weight costs nothing."""
    most = np.abs(weights).max(axis=0)
    return np.where(most > 0, most / np.float32(127), np.float32(1)).astype(np.float32)


def quantised(weights: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """[K, N] in whole steps of each output's scale."""
    steps: NDArray[np.int8] = np.clip(np.rint(weights / scales), -127, 127).astype(np.int8)
    return steps


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    kept = counts[:end].copy()
    kept[-1] += counts[end:].sum()
    edges = np.linspace(0, end, STEPS + 1).astype(int)
    sums = np.add.reduceat(counts[:end], edges[:-1])
    filled = np.add.reduceat((counts[:end] > 0).astype(np.float64), edges[:-1])
    level = np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0)
    coarse = np.where(counts[:end] > 0, np.repeat(level, np.diff(edges)), 0.0)
    p, q = kept / kept.sum(), coarse / max(coarse.sum(), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
