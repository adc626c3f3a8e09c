"""One text's answer: as its event tells it, and as the caller gets it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lnmt.monitoring.events import PredictionEvent, new_id
from lnmt.rollout.deployment import Deployment
from lnmt.serving.cached import Found
from lnmt.serving.postprocessors import Reply
from lnmt.types import Arm


@dataclass(frozen=True)
class Answer:
    """One text's answer. `label` is None where this text failed, then `error` is set, or its answer was `withheld`."""

    prediction_id: str
    label: str | None
    scores: dict[str, float]
    version: str  # digest of the bundle
    arm: Arm
    error: str | None
    labels: Collection[str] = ()  # that the model has, in its order
    withheld: str | None = None  # why

    def body(self) -> dict[str, Any]:
        """The reply's JSON object."""
        traced = {"version": self.version, "arm": self.arm, "prediction_id": self.prediction_id}
        if self.error is not None:
            return {"error": self.error, **traced}
        if self.withheld is not None:
            return {"label": None, "scores": {}, "withheld": self.withheld, **traced}
        return {"label": self.label, "scores": self.scores, **traced}


@dataclass(frozen=True)
class Served:
    """What the rows of one request have in common."""

    deployment: Deployment
    arm: Arm
    received: float  # unix seconds
    latency_ms: float
    unit: str | None  # sha256 of the stickiness key
    pinned: bool  # the caller chose the bundle

    @property
    def bundle(self) -> str:
        """Digest of what answered."""
        found = self.deployment.champion if self.arm == "champion" else self.deployment.challenger
        assert found is not None, "the arm was assigned, so its bundle is there"
        return found


def event_of(served: Served, one: Found, text: str, *, keep_text: bool) -> PredictionEvent:
    """The event of one row, with an id of its own: what the model said, and where the reply differs, that too."""
    row, found, reply = one.row, one.row.prediction, one.reply
    told = None if reply is None or reply.withheld is not None else reply.label
    return PredictionEvent(
        id=new_id(),
        time=served.received,
        model=served.deployment.name,
        generation=served.deployment.generation,
        arm=served.arm,
        bundle=served.bundle,
        unit=served.unit,
        cached=one.cached,
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
        given_label=None if found is None or told == found.label else told,
        withheld=None if reply is None else reply.withheld,
        pinned=served.pinned,
    )


def answer_of(event: PredictionEvent, reply: Reply | None) -> Answer:
    """What the caller gets: what the model said or, where there were postprocessors, their `reply`."""
    said = Answer(event.id, event.label, event.scores, event.bundle, event.arm, event.error, event.scores)
    if reply is None:
        return said
    if reply.withheld is not None:
        return replace(said, label=None, scores={}, withheld=reply.withheld)
    return replace(said, label=reply.label, scores=reply.scores)
