"""What waits for an engine, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from lnmt.types import Prediction


@dataclass(frozen=True)
class Row:
    """One text's outcome: a prediction (its `pooled` is projected already), or the error that this text alone met."""

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


class Expired(Exception):
    """The deadline has passed, or would before an answer: the work was not done."""


class Left(Exception):
    """Whoever asked has gone: what was not begun is not done."""


@dataclass(eq=False)
class Job:
    """The texts of one request, and who waits for their rows."""

    owner: str  # the principal's id
    deadline: float  # monotonic seconds; infinity without one
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Row]]
    rows: list[Row | None]  # None where the engine has not answered yet
    missing: int = 0

    def finish(self, place: int, row: Row) -> bool:
        """Keep the outcome of one text; True where it was the last."""
        self.rows[place] = row
        self.missing -= 1
        return self.missing == 0


@dataclass(eq=False, slots=True)
class Item:
    """One text that waits."""

    job: Job
    place: int  # in its request
    tokens: Sequence[int]
    width: int  # tokens with the padding that the engine prefers
    arrived: float  # monotonic seconds
    trace: object | None  # what `Tracing.current` gave
    start: float = field(default=0.0)  # virtual time at which its owner's turn comes
    gone: bool = field(default=False)  # taken or given up; still in the queue's heap
