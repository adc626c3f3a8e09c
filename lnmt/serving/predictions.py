"""The prediction store as the service uses it: events before replies, labels, and compaction beside both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from lnmt.errors import LnmtError, Transient
from lnmt.monitoring.compaction_process import Order, Pass
from lnmt.monitoring.compactor import Compactor
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, PredictionEvent, find_event
from lnmt.monitoring.feedback import append_feedback
from lnmt.observability.logging import get_logger
from lnmt.observability.metrics import Metrics
from lnmt.serving.problems import Problem
from lnmt.serving.turns import Turn

log = get_logger(__name__)


class Predictions:
    """Keeps events and labels below `directory`, indexed in the database of `url`.

    `keep_text`: with the texts of requests; `keep_s`: for so long, None for ever.
    """

    def __init__(
        self, directory: Path, url: str, metrics: Metrics, *, keep_text: bool = False, keep_s: float | None = None
    ) -> None:
        self.keep_text = keep_text
        self._directory = directory
        self._metrics = metrics
        self._writer = EventWriter(directory)
        self._together = Turn(self._append)
        self._index = EventIndex(url)
        order = Order(str(directory.absolute()), url, keep_s)
        self._compactor = Compactor(order, self._writer, observe=self._observe)

    def start(self) -> None:
        """Begin to compact."""
        self._compactor.start()

    def stop(self, timeout_s: float) -> None:
        """End that, and close the file of events."""
        self._compactor.stop(timeout_s)
        self._writer.close()
        self._index.close()

    async def keep(self, events: Sequence[PredictionEvent]) -> None:
        """Keep the events of one reply. Raises Problem 503: an answer that could not be traced is not given."""
        try:
            await self._together(events)
        except Transient as error:
            raise self._unwritable(error) from error

    def _append(self, replies: Sequence[Sequence[PredictionEvent]]) -> list[None]:
        """The events of the replies that go out together, with a single write."""
        began = time.perf_counter()
        size = self._writer.append(*chain.from_iterable(replies))
        self._metrics.observe_append(size, time.perf_counter() - began)
        return [None] * len(replies)

    def feedback(self, prediction_id: str, label: str) -> bool:
        """Keep a prediction's true label: blocking. False where no such prediction is known.

        Raises Problem 422 for a label that the model does not have, 503 where the disk refuses.
        """
        try:
            event = find_event(self._directory, prediction_id, index=self._index)
        except LnmtError as error:  # a damaged segment
            raise self._unwritable(error) from error
        if event is None:
            return False
        if event.scores and label not in event.scores:
            allowed = ", ".join(event.scores)
            raise Problem(422, "no label of this model", where="label", allowed=allowed, fix="send an allowed label")
        try:
            append_feedback(self._directory, prediction_id, label)
        except (OSError, Transient) as error:
            raise self._unwritable(error) from error
        self._metrics.feedback.labels(event.model).inc()
        return True

    def _observe(self, done: Pass) -> None:
        self._metrics.observe_compaction(done.seconds, {"spool": done.spool_bytes, "segments": done.segment_bytes})

    def _unwritable(self, error: Exception) -> Problem:
        log.error("the prediction store cannot be used", error=str(error))
        fix = "send again later; the operator must free or mend the disk"
        what = "the prediction store cannot be used"
        headers = {"Retry-After": "5"}
        return Problem(503, what, where="prediction store", fix=fix, headers=headers, reason="store")
