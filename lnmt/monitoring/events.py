"""Prediction events: one checksummed line per answered row, on disk before the reply leaves."""

from __future__ import annotations

from dataclasses import dataclass

from lnmt.types import Arm


@dataclass(frozen=True)
class PredictionEvent:
    """One row's answer, as it was served."""

    id: str
    time: float  # unix seconds
    model: str  # params.yaml: name
    generation: int  # of the deployment
    arm: Arm
    bundle: str  # digest
    unit: str | None  # sha256 of the stickiness key; null where the request had none
    cached: bool
    batch_rows: int
    row: int  # place in its batch
    tokens: int
    padded_tokens: int
    characters: int
    label: str | None  # null where `error` is set
    scores: dict[str, float]
    pooled: list[float]  # small projection of the pooled state
    latency_ms: float
    error: str | None
    text: str | None  # only under LNMT_STORE_TEXT
