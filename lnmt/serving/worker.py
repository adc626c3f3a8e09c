"""One bundle's engine in a thread of its own, behind a queue with a bound.

Legend: B = rows of a batch, T = padded tokens, C = labels.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lnmt.runtime.predictor import Predictor
from lnmt.serving.limits import Limits
from lnmt.types import Prediction


@dataclass(frozen=True)
class Row:
    """One text's outcome: a prediction, or the error that this text alone met."""

    prediction: Prediction | None
    error: Exception | None
    batch_rows: int
    row: int  # place in its batch
    padded_tokens: int


class QueueFull(Exception):
    """No room; come back after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"queue full, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Retired(Exception):
    """This bundle is no longer served: look at what is live, and ask that."""


@dataclass(frozen=True)
class _Job:
    texts: Sequence[str]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Row]]


class Worker:
    """Answers texts in the order of the requests; a text that fails harms no other.

    `observe` gets the seconds that the engine took for each batch.
    """

    def __init__(self, predictor: Predictor, limits: Limits, observe: Callable[[float], None]) -> None:
        self.predictor = predictor
        self._limits = limits
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._waiting_rows = 0
        self._row_seconds = 0.01  # running mean, for Retry-After
        self._retired = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"engine-{predictor.bundle.digest[7:15]}", daemon=True)
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        """Texts accepted and not yet answered."""
        return self._waiting_rows

    async def answer(self, texts: Sequence[str]) -> list[Row]:
        """One row a text, in order. Raises QueueFull or Retired, having accepted nothing."""
        loop = asyncio.get_running_loop()
        job = _Job(texts, loop, loop.create_future())
        with self._changed:
            if self._retired:
                raise Retired
            if self._waiting_rows and self._waiting_rows + len(texts) > self._limits.waiting_rows:
                raise QueueFull(max(1, math.ceil(self._waiting_rows * self._row_seconds)))
            self._waiting_rows += len(texts)
            self._jobs.append(job)
            self._changed.notify()
        return await job.future

    def retire(self) -> None:
        """Take nothing more, finish what was accepted, then close the engine. Returns at once."""
        with self._changed:
            self._retired = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait until a retired worker has ended; False where it has not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._retired)
                if not self._jobs:
                    break
                job = self._jobs.popleft()
            started = time.perf_counter()
            rows = [] if job.future.cancelled() else self._answer(job.texts)
            took = (time.perf_counter() - started) / len(job.texts)
            with self._changed:
                self._waiting_rows -= len(job.texts)
                self._row_seconds += 0.1 * (took - self._row_seconds)
            try:
                job.loop.call_soon_threadsafe(_deliver, job.future, rows)
            except RuntimeError:
                continue  # the loop has ended; nobody waits
        self.predictor.close()

    def _answer(self, texts: Sequence[str]) -> list[Row]:
        """Batches of similar lengths, so that little is padding; never raises."""
        encoded: dict[int, list[int]] = {}
        outcomes: dict[int, Row] = {}
        for index, text in enumerate(texts):
            try:
                encoded[index] = self.predictor.encode([text])[0]
            except Exception as error:  # whatever a processor raises concerns this text alone
                outcomes[index] = Row(None, error, 1, 0, 0)
        order = sorted(encoded, key=lambda index: len(encoded[index]))
        for start in range(0, len(order), self._limits.batch_rows):
            chosen = order[start : start + self._limits.batch_rows]
            found = self._batch([encoded[index] for index in chosen])
            outcomes.update(zip(chosen, found, strict=True))
        return [outcomes[index] for index in range(len(texts))]

    def _batch(self, rows: Sequence[list[int]]) -> list[Row]:
        """Run one batch; where it fails, each row alone, so that only the poison row gets the error."""
        predictor = self.predictor
        started = time.perf_counter()
        try:
            batch = predictor.pad(rows)  # [B, T]
            output = predictor.engine.infer(batch)  # logits [B, C]
            scores = predictor.scores(output.logits)
        except Exception as error:  # an engine may raise anything; the service stays up
            if len(rows) == 1:
                return [Row(None, error, 1, 0, 0)]
            return [self._batch([row])[0] for row in rows]
        self._observe(time.perf_counter() - started)
        return [
            Row(
                Prediction(
                    label=predictor.labels[int(row_scores.argmax())],
                    scores=dict(zip(predictor.labels, row_scores.tolist(), strict=True)),
                    tokens=len(row),
                    pooled=pooled,
                ),
                None,
                batch_rows=len(rows),
                row=place,
                padded_tokens=batch.input_ids.shape[1],
            )
            for place, (row, row_scores, pooled) in enumerate(zip(rows, scores, output.pooled, strict=True))
        ]


def _deliver(future: asyncio.Future[list[Row]], rows: list[Row]) -> None:
    if not future.done():
        future.set_result(rows)
