"""Plain types that several packages share.

Legend: B = batch rows, T = tokens, C = labels, H = pooled width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arm = Literal["champion", "challenger"]
Split = Literal["train", "validation", "test", "holdout"]

# The columns that every table after `ingest` has; slice columns (`ingest.keep`) stand beside them.
ID, TEXT, LABEL = "id", "text", "label"


@dataclass(frozen=True)
class Batch:
    """What an engine takes."""

    input_ids: NDArray[np.int64]  # [B, T]
    attention_mask: NDArray[np.int64]  # [B, T], 1 for a token, 0 for padding


@dataclass(frozen=True)
class Output:
    """What an engine gives."""

    logits: NDArray[np.float32]  # [B, C], before the temperature
    pooled: NDArray[np.float32]  # [B, H], the encoder's pooled state


@dataclass(frozen=True)
class Prediction:
    """One row's answer."""

    label: str
    scores: dict[str, float]  # calibrated probabilities, by label; they sum to 1
    tokens: int  # of the text, after truncation
    pooled: NDArray[np.float32]  # [H]
