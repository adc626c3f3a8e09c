"""One text's answer: as its event tells it, and as the caller gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lnmt.monitoring.events import PredictionEvent, new_id
from lnmt.rollout.deployment import Deployment
from lnmt.serving.batching.row import Row
from lnmt.types import Arm


@dataclass(frozen=True)
class Answer:
    """One text's answer. `label` is None, and `error` set, where this text failed."""

    prediction_id: str
    label: str | None
    scores: dict[str, float]
    version: str  # digest of the bundle
    arm: Arm
    error: str | None

    def body(self) -> dict[str, Any]:
        """The reply's JSON object."""
        traced = {"version": self.version, "arm": self.arm, "prediction_id": self.prediction_id}
        if self.error is not None:
            return {"error": self.error, **traced}
        return {"label": self.label, "scores": self.scores, **traced}


@dataclass(frozen=True)
class Served:
    """What the rows of one request have in common."""

    deployment: Deployment
    arm: Arm
    received: float  # unix seconds
    latency_ms: float
    unit: str | None  # sha256 of the stickiness key

    @property
    def bundle(self) -> str:
        """Digest of what answered."""
        found = self.deployment.champion if self.arm == "champion" else self.deployment.challenger
        assert found is not None, "the arm was assigned, so its bundle is there"
        return found


def event_of(served: Served, row: Row, text: str, *, cached: bool, keep_text: bool) -> PredictionEvent:
    """The event of one row, with an id of its own."""
    found = row.prediction
    return PredictionEvent(
        id=new_id(),
        time=served.received,
        model=served.deployment.name,
        generation=served.deployment.generation,
        arm=served.arm,
        bundle=served.bundle,
        unit=served.unit,
        cached=cached,
        batch_rows=row.batch_rows,
        row=row.row,
        tokens=found.tokens if found else 0,
        padded_tokens=row.padded_tokens,
        characters=len(text),
        label=found.label if found else None,
        scores=found.scores if found else {},
        pooled=found.pooled.astype(np.float64).round(6).tolist() if found else [],
        latency_ms=served.latency_ms,
        error=None if row.error is None else type(row.error).__name__,
        text=text if keep_text else None,
    )


def answer_of(event: PredictionEvent) -> Answer:
    """What the caller gets."""
    return Answer(event.id, event.label, event.scores, event.bundle, event.arm, event.error)
