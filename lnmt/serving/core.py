"""The hot path: arm → cache → batch → postprocessors → prediction event → answer."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lnmt.observability.logging import frames, get_logger
from lnmt.observability.metrics import Metrics
from lnmt.rollout.assign import assign
from lnmt.rollout.deployment import Deployment
from lnmt.serving.answers import Answer, Served, answer_of, event_of
from lnmt.serving.batching.batcher import Batcher
from lnmt.serving.batching.row import Expired, Left, QueueFull, Retired
from lnmt.serving.cache import ResponseCache
from lnmt.serving.cached import ANYONE, CachedAnswers, Call, Found
from lnmt.serving.live import Live, Snapshot
from lnmt.serving.postprocessors import Postprocessors
from lnmt.serving.predictions import Predictions
from lnmt.serving.problems import GONE, Problem
from lnmt.types import Arm

log = get_logger(__name__)


class Core:
    """Answers for one model. Every answer has its event on disk before it is given."""

    def __init__(
        self,
        name: str,
        live: Live,
        predictions: Predictions,
        metrics: Metrics,
        *,
        cache: ResponseCache | None = None,
        postprocessors: Postprocessors | None = None,
        seed: int | None = None,
    ) -> None:
        self.name = name
        self.live = live
        self.metrics = metrics
        self._predictions = predictions
        self._cached = None if cache is None else CachedAnswers(cache, partial(metrics.observe_lookup, name))
        self._postprocessors = postprocessors
        self._waiting = metrics.waiting_rows.labels(name)
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

    async def predict(
        self, texts: Sequence[str], user: str | None, call: Call = ANYONE, version: str | None = None
    ) -> list[Answer]:
        """One answer a text, all of one arm: that of the bundle `version`, where the caller chose one.

        Raises Problem 404 where `version` is not live, 429 where the queue is full, 503 where nothing is live, 504
        where the deadline comes first, 499 once the caller has gone.
        """
        received, started = time.time(), time.perf_counter()
        deployment, arm, found = await self._ask(texts, user, call, version)
        if self._postprocessors is not None:
            found = [_told(self._postprocessors, one, text) for one, text in zip(found, texts, strict=True)]
        latency_ms = round((time.perf_counter() - started) * 1000, 3)
        unit = None if user is None else f"sha256:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()}"
        served = Served(deployment, arm, received, latency_ms, unit, pinned=version is not None)
        events = [
            event_of(served, one, text, keep_text=self._predictions.keep_text)
            for one, text in zip(found, texts, strict=True)
        ]
        await self._predictions.keep(events)
        failed = 0
        for one, event in zip(found, events, strict=True):
            if one.row.error is not None:
                failed += 1
                error, where = type(one.row.error).__name__, frames(one.row.error)
                told = {"id": event.id, "bundle": event.bundle, "postprocessor": one.by}
                log.error("a text failed", **told, error=error, frames=where)
            elif one.by is not None:
                self.metrics.withheld.labels(self.name, one.by).inc()
        self.metrics.observe_answers(self.name, arm, "ok", len(events) - failed)
        if failed:
            self.metrics.observe_answers(self.name, arm, "error", failed)
        return [answer_of(event, one.reply) for one, event in zip(found, events, strict=True)]

    async def _ask(
        self, texts: Sequence[str], user: str | None, call: Call, version: str | None
    ) -> tuple[Deployment, Arm, list[Found]]:
        """The rows, and what gave them. A bundle retired in between is not asked again: the next generation is.

        There the arm is decided anew, so that a `version` which has gone is refused and not another's answer given.
        """
        draw = self._random.random()
        while True:
            snapshot = self.snapshot()
            deployment = snapshot.deployment
            arm = assign(deployment, user, draw) if version is None else arm_of(deployment, version)
            self._waiting.inc(len(texts))
            try:
                return deployment, arm, await self._rows(snapshot.batcher(arm), texts, call)
            except Retired:
                continue
            finally:
                self._waiting.dec(len(texts))

    async def _rows(self, batcher: Batcher, texts: Sequence[str], call: Call) -> list[Found]:
        try:
            if self._cached is not None:
                return await self._cached.rows(batcher, texts, call)
            rows = await batcher.answer(texts, call.owner, call.deadline, call.gone)
            return [Found(row, cached=False) for row in rows]
        except QueueFull as full:
            raise Problem(
                429,
                "too much is waiting",
                where="queue",
                fix=f"send again in {full.retry_after_s} s",
                headers={"Retry-After": str(full.retry_after_s)},
                reason="queue full",
            ) from None
        except Expired:
            raise Problem(
                504,
                "no answer before the deadline",
                where="X-Request-Timeout-Ms",
                fix="allow more time, or send again when less is waiting",
                headers={"Retry-After": "1"},
            ) from None
        except Left:
            raise Problem(GONE, "the caller has gone", fix="stay until the answer comes") from None


def arm_of(deployment: Deployment, version: str) -> Arm:
    """The arm that serves the bundle `version`, a digest. Raises Problem 404 where none does."""
    arms = deployment.arms
    if version not in arms:
        where = f"version {version[:100]} of {deployment.name}"
        fix = "ask for a version that is live, or leave /versions/… out of the path: then the share decides"
        raise Problem(404, "no such version is live", where=where, allowed=", ".join(arms), fix=fix)
    return arms[version]


def _told(postprocessors: Postprocessors, one: Found, text: str) -> Found:
    """The row with what its caller is told; a postprocessor that fails, fails this text as an engine does."""
    if one.row.prediction is None:
        return one
    reply, by = postprocessors.reply(one.row.prediction, text)
    if isinstance(reply, Exception):
        return replace(one, row=replace(one.row, prediction=None, error=reply), by=by)
    return replace(one, reply=reply, by=by)
