"""Logits → what they mean: probabilities, and how expected each token was.

Legend: C = labels, T = tokens of a row, V = vocabulary, `...` = any leading dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.types import Task


def to_scores(logits: NDArray[np.float32], task: Task, temperature: float) -> NDArray[np.float32]:
    """Calibrated probabilities [..., C] of logits [..., C].

    Those of one text or token sum to 1, but for multi-label-classification, where each label stands alone.
    """
    scaled = logits / temperature
    if task == "multi-label-classification":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * scaled)), dtype=np.float32)  # the sigmoid, without overflow
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


def next_token_losses(logits: NDArray[np.float32], tokens: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """−log p of each token given those before it, in nats: [T − 1], from the logits [T, V] and ids [T] of one row."""
    before = logits[:-1]
    top = before.max(axis=-1)
    total = np.log(np.exp(before - top[:, None]).sum(axis=-1, dtype=np.float64)) + top
    return np.asarray(total - before[np.arange(len(before)), tokens[1:]], dtype=np.float32)
