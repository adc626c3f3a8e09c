"""Temperature scaling: one number that makes scores mean what they say.

Legend: N = rows, C = classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities [N, C] of logits [N, C] at a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def sigmoid(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of labels that stand alone, at a temperature; any shape."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scaled)), dtype=np.float64)  # does not overflow


def negative_log_likelihood(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64], temperature: float = 1.0
) -> float:
    """Mean −log p(label) in nats; labels [N] are class places."""
    from scipy.special import logsumexp

    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))


def binary_likelihood(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]], temperature: float = 1.0
) -> float:
    """The same of labels that stand alone: mean −log p of the N·C decisions; labels [N, C] are 0 or 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood (Guo et al., ICML 2017, §4.2).

    Raises LnmtError without rows.
    """
    return _least(lambda temperature: negative_log_likelihood(logits, labels, temperature), len(labels))


def fit_binary_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]) -> float:
    """The same for labels that stand alone: one temperature for all; logits and labels are [N, C]."""
    return _least(lambda temperature: binary_likelihood(logits, labels, temperature), len(labels))


def _least(loss: Callable[[float], float], rows: int) -> float:
    """Where `loss` is least. It is convex in 1/T, so a bounded search over log T finds the one minimum.

    The bounds 0.05…20 hold it where rows are too few, or all right, and the optimum runs away.
    """
    from scipy.optimize import minimize_scalar

    if rows == 0:
        raise LnmtError(
            "no rows to fit the temperature on",
            where="data/processed/validation",
            fix="give validation a larger share: params.yaml: process.split",
        )
    found = minimize_scalar(
        lambda log_temperature: loss(float(np.exp(log_temperature))),
        bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
