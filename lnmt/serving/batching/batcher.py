"""One bundle's engine in a thread of its own, behind a fair queue with a bound.

Legend: B = rows of a batch, T = padded tokens, C = labels.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lnmt.observability.tracing import OFF, Tracing
from lnmt.runtime.engine import checked_output
from lnmt.runtime.options import Options
from lnmt.runtime.predictor import Predictor
from lnmt.serving.batching.cost import BatchCost
from lnmt.serving.batching.encoding import Encoder
from lnmt.serving.batching.policy import Reason, Waiting, padded_tokens, release
from lnmt.serving.batching.queue import FairQueue
from lnmt.serving.batching.row import Expired, Item, Job, Left, QueueFull, Retired, Row
from lnmt.serving.limits import Limits
from lnmt.stats.projection import project
from lnmt.types import Batch, Prediction

Answers = Sequence[tuple[asyncio.Future[list[Row]], object]]  # who waits, and rows or an exception

DIGITS = 6  # of scores
LEARNED = 10  # batches after which the expected time refuses what would come too late
PROBE_S = 5.0  # without a batch for so long, one is run whatever is expected: engines become faster too
FADE = 0.9  # of the rows that were here at once, a batch: who left is not waited for long


class Observer:
    """What a batcher tells of itself; a sink that forgets. `lnmt.observability` has the one that counts."""

    def batch(
        self, *, rows: int, tokens: int, padded: int, seconds: float, ages_s: Sequence[float], reason: Reason
    ) -> None:
        """A batch was run: its rows, real and padded tokens, engine seconds, each row's wait, why it left."""


class Batcher:
    """Answers texts in batches of similar lengths; a text that fails harms no other."""

    def __init__(
        self, predictor: Predictor, limits: Limits, observer: Observer | None = None, tracing: Tracing = OFF
    ) -> None:
        self.predictor = predictor
        self.cost = BatchCost()
        self._limits = limits
        self._observer = observer or Observer()
        self._tracing = tracing
        self._multiple = predictor.bundle.manifest.pad_multiple
        # the settings were checked where the engine was loaded
        self._options = Options(**predictor.bundle.manifest.settings)
        self._queue = FairQueue(
            rows=limits.waiting_rows,
            batch_rows=limits.batch_rows,
            batch_tokens=limits.batch_tokens,
            options=self._options,
        )
        self._accepted = 0  # rows accepted and not yet answered
        self._together = 0.0  # rows that were here at once, lately
        self._log_gap = 0.0  # of the seconds between two rows that come: their geometric mean, lately
        self._came = -math.inf
        self._ran = -math.inf
        self._row_seconds = 0.01  # running mean, for Retry-After
        self._width = 32.0  # running mean of a row's padded tokens
        self._encode = Encoder(predictor)
        self._retired = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"engine-{predictor.bundle.digest[7:15]}", daemon=True)
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        """Texts accepted and not yet answered."""
        return self._accepted

    async def answer(
        self,
        texts: Sequence[str],
        owner: str = "local",
        deadline: float = math.inf,
        gone: asyncio.Future[None] | None = None,
    ) -> list[Row]:
        """One row a text, in order. `owner`: the principal's id; `deadline` in monotonic seconds.

        Raises QueueFull or Retired, having accepted nothing, or having given way to others; Expired
        where no answer can come in time; Left once `gone` is done.
        """
        if gone is not None and gone.done():
            raise Left
        loop = asyncio.get_running_loop()
        job = Job(owner, deadline, loop, loop.create_future(), [None] * len(texts), len(texts))
        self._check_room(job)  # before the work of tokenising
        encoded = await self._encode(texts)
        items = []
        now, trace = time.monotonic(), self._tracing.current()
        for place, tokens in enumerate(encoded):
            if isinstance(tokens, Exception):
                job.finish(place, Row(None, tokens, 1, 0, 0))
            else:
                width = min(-(-len(tokens) // self._multiple) * self._multiple, self.predictor.tokenizer.max_tokens)
                items.append(Item(job, place, tokens, width, now, trace))
        if not items:
            return [row for row in job.rows if row is not None]
        with self._changed:
            self._make_room(job, len(items))
            self._queue.put(items)
            self._accepted += len(items)
            self._together = max(self._together, self._accepted)
            gap_s = min(max((now - self._came) / len(items), 1e-6), 1.0)
            self._log_gap += 0.1 * (math.log(gap_s) - self._log_gap)
            self._came = now
            self._changed.notify()
        # a timer alone costs a fifth of asyncio.timeout
        timer = None if deadline == math.inf else loop.call_later(deadline - now, _deliver, [(job.future, Expired())])

        def leave(gone: asyncio.Future[None]) -> None:
            _deliver([(job.future, Left())])

        if gone is not None:
            gone.add_done_callback(leave)
        try:
            return await job.future
        finally:
            if timer is not None:
                timer.cancel()
            if gone is not None:
                gone.remove_done_callback(leave)
            job.future.cancel()  # whoever was cancelled is not worked for

    def retire(self) -> None:
        """Take nothing more, finish what was accepted, then close the engine. Returns at once."""
        with self._changed:
            self._retired = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait until a retired batcher has ended; False where it has not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _check_room(self, job: Job) -> None:
        with self._changed:
            if self._retired:
                raise Retired
            if self._queue.room(job.owner, len(job.rows)) is None:
                raise self._full()

    def _make_room(self, job: Job, rows: int) -> None:
        """Under the lock. Raises Retired or QueueFull; else those who must give way were told."""
        if self._retired:
            raise Retired
        giving_way = self._queue.room(job.owner, rows)
        if giving_way is None:
            raise self._full()
        for other in giving_way:
            dropped = self._queue.drop(lambda item, other=other: item.job is other)  # type: ignore[misc]
            self._accepted -= len(dropped)
            _tell(other.loop, [(other.future, self._full())])

    def _full(self) -> QueueFull:
        return QueueFull(max(1, math.ceil(self._accepted * self._row_seconds)))

    def _run(self) -> None:
        while True:
            with self._changed:
                taken = self._next()
            if taken is None:
                break
            items, reason = taken
            if items:
                self._serve(items, reason)
        self.predictor.close()

    def _next(self) -> tuple[list[Item], Reason] | None:
        """Under the lock: the next batch and why it leaves now; None where a retired batcher is done."""
        while True:
            self._give_up()
            if not len(self._queue):
                if self._retired:
                    return None
                self._changed.wait()
                continue
            now = time.monotonic()
            found = release(
                Waiting(
                    rows=len(self._queue),
                    expected_rows=round(self._together),
                    oldest_s=now - self._queue.oldest(),
                    gap_s=math.exp(self._log_gap),  # bursts count, not the silence between them
                    full=self._queue.full_batch or self._retired,
                ),
                fixed_s=self.cost.fixed_s,
                max_wait_s=self._limits.max_wait_s,
            )
            if isinstance(found, float):
                self._changed.wait(found)
                continue
            return self._queue.take(self._is_worth, self._done_at), found

    def _is_worth(self, padding: int) -> bool:
        """So many tokens of padding cost less than a batch more."""
        return padding * self.cost.by_token_s <= self.cost.fixed_s

    def _needs_s(self, padded: int, rows: int) -> float:
        """The time that a batch is expected to take; 0 where too little is known of the engine as it is now."""
        known = self.cost.batches >= LEARNED and time.monotonic() - self._ran < PROBE_S
        return self.cost.seconds(padded, rows) if known else 0.0

    def _done_at(self, padded: int, rows: int) -> float:
        return time.monotonic() + self._needs_s(padded, rows)

    def _bound_queue(self, items: Sequence[Item]) -> None:
        """Under the lock: let no more rows wait than the engine answers in `queue_s`, at rows as wide as of late."""
        self._width += 0.05 * (sum(item.width for item in items) / len(items) - self._width)
        if self.cost.batches >= LEARNED:
            rows = self._limits.batch_rows
            batch_s = max(self.cost.seconds(round(self._width * rows), rows), 1e-6)
            fitting = int(self._limits.queue_s / batch_s * rows)
            self._queue.bound = min(self._limits.waiting_rows, max(rows, fitting))

    def _give_up(self) -> None:
        """Under the lock: take out what nobody waits for, and what would come too late."""
        now = time.monotonic()

        def late(item: Item) -> bool:
            return item.job.future.done() or item.job.deadline < now + self._needs_s(item.width, 1)

        for item in self._queue.drop(late):
            self._accepted -= 1
            if not item.job.future.done():
                _tell(item.job.loop, [(item.job.future, Expired())])

    def _serve(self, items: list[Item], reason: Reason) -> None:
        padded = padded_tokens([item.width for item in items], self._options)
        began = time.monotonic()
        waited = ((item.trace, item.arrived) for item in items)
        with self._tracing.batch(waited, rows=len(items), padded_tokens=padded, reason=reason):
            rows = self._batch(items)
        took = time.monotonic() - began
        if all(row.error is None for row in rows):
            self.cost.learn(padded, len(items), took)
        with self._changed:
            self._ran = time.monotonic()
            self._together = max(self._accepted, FADE * self._together)
            self._accepted -= len(items)
            self._row_seconds += 0.1 * (took / len(items) - self._row_seconds)
            self._bound_queue(items)
        done: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[list[Row]], object]]] = defaultdict(list)
        for item, row in zip(items, rows, strict=True):
            if item.job.finish(item.place, row):
                done[item.job.loop].append((item.job.future, item.job.rows))
        for loop, answers in done.items():
            _tell(loop, answers)
        self._observer.batch(
            rows=len(items),
            tokens=sum(len(item.tokens) for item in items),
            padded=padded,
            seconds=took,
            ages_s=[began - item.arrived for item in items],
            reason=reason,
        )

    def _batch(self, items: Sequence[Item]) -> list[Row]:
        """Run one batch; where it fails, its halves, so that only the poison rows get the error."""
        try:
            return self._compute(items)
        except Exception as error:  # an engine may raise anything; the service stays up
            if len(items) == 1:
                return [Row(None, error, 1, 0, 0)]
            half = len(items) // 2
            return [*self._batch(items[:half]), *self._batch(items[half:])]

    def _compute(self, items: Sequence[Item]) -> list[Row]:
        """Raises what the engine raises, LnmtError for what is no finite row for each text."""
        predictor = self.predictor
        batch = predictor.pad([item.tokens for item in items])  # [B, T]
        engine, padded = predictor.bundle.manifest.engine, batch.input_ids.size
        with self._tracing.span("engine", engine=engine, rows=len(items), padded_tokens=padded):
            output = predictor.engine.infer(batch)  # logits [B, C]
        # once more: an engine of a plugin may check nothing
        output = checked_output(engine, batch, output.logits, output.pooled, predictor.task)
        scores = predictor.scores(output.logits).astype(np.float64).round(DIGITS).tolist()
        projected = project(output.pooled)
        widths = self._widths(items, batch)
        labels = predictor.labels
        best = output.logits.argmax(axis=1).tolist()
        return [
            Row(
                Prediction(labels[best[place]], dict(zip(labels, row_scores, strict=True)), len(item.tokens), pooled),
                None,
                batch_rows=len(items),
                row=place,
                padded_tokens=widths[place],
            )
            for place, (item, row_scores, pooled) in enumerate(zip(items, scores, projected, strict=True))
        ]

    def _widths(self, items: Sequence[Item], batch: Batch) -> list[int]:
        """The width that each row was computed at: its group's, rows being in the order of their widths."""
        if self._options.group_rows is None:
            return [batch.input_ids.shape[1]] * len(items)
        size = self._options.group_size(len(items))
        return [items[place - place % size].width for place in range(len(items))]


def _tell(loop: asyncio.AbstractEventLoop, answers: Answers) -> None:
    """Deliver from another thread, all in one call."""
    try:
        loop.call_soon_threadsafe(_deliver, answers)
    except RuntimeError:
        return  # the loop has ended; nobody waits


def _deliver(answers: Answers) -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)  # type: ignore[arg-type]
