"""The hot path: arm → engine → prediction event → answer."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.errors import Transient
from lnmt.monitoring.events import EventWriter, PredictionEvent, append_feedback, find_event, new_id
from lnmt.observability.logging import frames, get_logger
from lnmt.observability.metrics import Metrics
from lnmt.rollout.assign import assign
from lnmt.rollout.deployment import Deployment
from lnmt.serving.live import Live, Snapshot
from lnmt.serving.problems import Problem
from lnmt.serving.worker import QueueFull, Retired, Row
from lnmt.stats.projection import project
from lnmt.types import Arm

log = get_logger(__name__)


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


class Core:
    """Answers for one model. Every answer has its event on disk before it is given."""

    def __init__(
        self, name: str, live: Live, events: Path, metrics: Metrics, *, store_text: bool, seed: int | None = None
    ) -> None:
        self.name = name
        self.live = live
        self.metrics = metrics
        self._events_dir = events
        self._events = EventWriter(events)
        self._store_text = store_text
        self._random = random.Random(seed)  # noqa: S311  # a share of the traffic, no secret

    def snapshot(self) -> Snapshot:
        """What is live. Raises Problem 503 where nothing is."""
        snapshot = self.live.snapshot
        if snapshot is None:
            nothing = self.live.reason == "no model released yet"
            raise Problem(
                503,
                self.live.reason,
                where=f"deployment of {self.name}",
                fix="lnmt release" if nothing else "wait; the service's log says more",
                headers={"Retry-After": "1"},
            )
        return snapshot

    async def predict(self, texts: Sequence[str], user: str | None) -> list[Answer]:
        """One answer a text, all of one arm. Raises Problem 429 where the queue is full, 503 where nothing is live."""
        received, started = time.time(), time.perf_counter()
        deployment, arm, rows = await self._ask(texts, user)
        latency_ms = round((time.perf_counter() - started) * 1000, 3)
        unit = None if user is None else f"sha256:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()}"
        bundle = deployment.champion if arm == "champion" else deployment.challenger
        assert bundle is not None, "the arm was assigned, so its bundle is there"
        events = [
            _event(row, text, self._store_text, deployment, arm, bundle, unit, received, latency_ms)
            for row, text in zip(rows, texts, strict=True)
        ]
        self._keep(events)
        for row, event in zip(rows, events, strict=True):
            self.metrics.predictions.labels(self.name, arm, "ok" if row.error is None else "error").inc()
            if row.error is not None:
                error = type(row.error).__name__
                log.error("a text failed", id=event.id, bundle=bundle, error=error, frames=frames(row.error))
        return [Answer(event.id, event.label, event.scores, bundle, arm, event.error) for event in events]

    def feedback(self, prediction_id: str, label: str) -> bool:
        """Keep a prediction's true label: blocking. False where no such prediction is known.

        Raises Problem 422 for a label that the model does not have.
        """
        event = find_event(self._events_dir, prediction_id)
        if event is None:
            return False
        if event.scores and label not in event.scores:
            allowed = ", ".join(event.scores)
            raise Problem(422, "no label of this model", where="label", allowed=allowed, fix="send an allowed label")
        try:
            append_feedback(self._events_dir, prediction_id, label)
        except (OSError, Transient) as error:
            raise self._unwritable(error) from error
        self.metrics.feedback.labels(self.name).inc()
        return True

    def close(self) -> None:
        """Close the events' file, and leave the metrics of live workers."""
        self._events.close()
        self.metrics.close()

    async def _ask(self, texts: Sequence[str], user: str | None) -> tuple[Deployment, Arm, list[Row]]:
        """The rows, and what gave them. A bundle retired in between is not asked again: the next generation is."""
        draw = self._random.random()
        while True:
            snapshot = self.snapshot()
            arm = assign(snapshot.deployment, user, draw)
            worker = snapshot.worker(arm)
            self.metrics.waiting_rows.labels(self.name).inc(len(texts))
            try:
                return snapshot.deployment, arm, await worker.answer(texts)
            except Retired:
                continue
            except QueueFull as full:
                self.metrics.rejections.labels("queue full").inc()
                raise Problem(
                    429,
                    "too much is waiting",
                    where="queue",
                    fix=f"send again in {full.retry_after_s} s",
                    headers={"Retry-After": str(full.retry_after_s)},
                ) from None
            finally:
                self.metrics.waiting_rows.labels(self.name).dec(len(texts))

    def _keep(self, events: list[PredictionEvent]) -> None:
        """An answer that could not be traced is not given."""
        try:
            self._events.append(*events)
        except Transient as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> Problem:
        log.error("the prediction store cannot be written", error=str(error))
        self.metrics.rejections.labels("store").inc()
        fix = "send again later; the operator must free or mend the disk"
        what = "the prediction store cannot be written"
        return Problem(503, what, where="prediction store", fix=fix, headers={"Retry-After": "5"})


def _event(
    row: Row,
    text: str,
    store_text: bool,
    deployment: Deployment,
    arm: Arm,
    bundle: str,
    unit: str | None,
    received: float,
    latency_ms: float,
) -> PredictionEvent:
    found = row.prediction
    return PredictionEvent(
        id=new_id(),
        time=received,
        model=deployment.name,
        generation=deployment.generation,
        arm=arm,
        bundle=bundle,
        unit=unit,
        cached=False,
        batch_rows=row.batch_rows,
        row=row.row,
        tokens=found.tokens if found else 0,
        padded_tokens=row.padded_tokens,
        characters=len(text),
        label=found.label if found else None,
        scores={label: round(score, 6) for label, score in found.scores.items()} if found else {},
        pooled=[round(float(value), 6) for value in project(found.pooled)] if found else [],
        latency_ms=latency_ms,
        error=None if row.error is None else type(row.error).__name__,
        text=text if store_text else None,
    )
