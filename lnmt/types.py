"""Plain types that several packages share.

Legend: B = batch rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arm = Literal["champion", "challenger"]
Task = Literal[
    "text-classification", "multi-label-classification", "text-regression", "token-classification", "text-generation"
]
Precision = Literal["fp32", "bf16", "fp16"]
WITHOUT_LABELS: tuple[Task, ...] = ("text-regression", "text-generation")  # tasks that have no label set
IGNORED = -100  # the label of a token that has none: padding, special tokens, later pieces of a word
PER_TOKEN: tuple[Task, ...] = ("token-classification", "text-generation")  # tasks with an answer for each token
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

    logits: NDArray[np.float32]  # [B, C], [B, T, C] or [B, T, V] by the task, before the temperature
    pooled: NDArray[np.float32]  # [B, H], the encoder's pooled state


@dataclass(frozen=True)
class Prediction:
    """One row's answer: text-classification."""

    label: str
    scores: dict[str, float]  # calibrated probabilities, by label; they sum to 1
    tokens: int  # of the text, after truncation
    pooled: NDArray[np.float32]  # [H]


@dataclass(frozen=True)
class LabelsPrediction:
    """One row's answer: multi-label-classification."""

    labels: tuple[str, ...]  # those that are as likely as not, or likelier; in the order of the label set
    scores: dict[str, float]  # calibrated probabilities, by label; each stands alone
    tokens: int


@dataclass(frozen=True)
class NumberPrediction:
    """One row's answer: text-regression."""

    value: float
    tokens: int


@dataclass(frozen=True)
class TagsPrediction:
    """One row's answer: token-classification."""

    words: tuple[str, ...]
    tags: tuple[str | None, ...]  # one for each word; None for a word that the tokenizer has no token for
    tokens: int


@dataclass(frozen=True)
class TextPrediction:
    """One row's answer: text-generation, how expected the whole text is. What follows it, `lnmt.Model` writes."""

    loss: float  # mean −log p(token | those before it), in nats
    tokens: int  # of the text, and the one that ends it

    @property
    def perplexity(self) -> float:
        """exp(loss): the choices that each token was drawn from, in effect."""
        return math.exp(self.loss)


AnyPrediction = Prediction | LabelsPrediction | NumberPrediction | TagsPrediction | TextPrediction
