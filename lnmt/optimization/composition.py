"""Does an answer depend on the other texts of its batch?

An engine that scales by the whole batch (dynamic INT8) or sums in another order for another shape may answer
otherwise in other company. Each text is answered alone and then in several random batches of mixed lengths.

Legend: B = rows of a batch, T = tokens, C = labels, V = vocabulary, N = texts looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.stats.noninferiority import mean_evidence
from lnmt.stats.shares import share_upper
from lnmt.types import PER_TOKEN, Output, Task


class RunsRows(Protocol):
    """What is looked at; `lnmt.runtime.predictor.Predictor` is one."""

    def infer(self, rows: Sequence[Sequence[int]]) -> Output:
        """Run rows of token ids as one padded batch."""


@dataclass(frozen=True)
class Composition:
    """How much company changes."""

    texts: int  # N
    changed: int | None  # texts whose decision is another in any of the batches; None for numbers, which move
    share: float  # changed over texts; of numbers the mean of each text's largest move, in units of `spread`, at most 1
    share_upper: float  # it is at most this, at `confidence`
    confidence: float
    max_difference: float  # of any logit, between a text alone and in company

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and the certificate."""
        return asdict(self)


def compare_compositions(
    engine: RunsRows,
    rows: Sequence[Sequence[int]],
    task: Task,
    *,
    confidence: float,
    batch_size: int = 32,
    batchings: int = 3,
    spread: float = 1.0,
    seed: int = 0,
) -> Composition:
    """Answer `rows` of token ids [N] alone, and in `batchings` ways in batches of up to `batch_size`.

    Groups of `batch_size` are drawn at random, whatever the lengths; each is answered as one batch and then cut
    into smaller ones. Only a group's logits are in memory. Of numbers `spread` is their unit: the targets' standard
    deviation. Raises LnmtError for no rows, and where the engine does.
    """
    if not rows:
        raise LnmtError(
            "there is nothing to answer in company", where="compare_compositions", value="0 rows", allowed="at least 1"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows)).tolist()
    changed, moved = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows))
    for start in range(0, len(rows), batch_size):
        group = order[start : start + batch_size]
        alone = {place: _own(engine.infer([rows[place]]), 0, rows[place], task) for place in group}
        for batch in _batches(group, batchings, rng):
            output = engine.infer([rows[place] for place in batch])
            for at, place in enumerate(batch):
                logits = _own(output, at, rows[place], task)
                moved[place] = max(moved[place], float(np.abs(logits - alone[place]).max(initial=0.0)))
                changed[place] |= bool((_decide(logits, task) != _decide(alone[place], task)).any())
    largest = float(moved.max())
    if task == "text-regression":
        found = mean_evidence(np.minimum(moved / spread, 1.0), 0.0, confidence, whole=False, seed=seed)
        return Composition(len(rows), None, found.estimate, found.upper, confidence, largest)
    count = int(changed.sum())
    upper = share_upper(count, len(rows), confidence)
    return Composition(len(rows), count, count / len(rows), upper, confidence, largest)


def _batches(group: Sequence[int], batchings: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """The group as a whole, then in `batchings` − 1 ways in batches of 2 and more, as random as their rows."""
    yield list(group)
    for _ in range(batchings - 1):
        left = rng.permutation(group).tolist()
        while left:
            size = int(rng.integers(2, max(len(group), 3)))
            batch, left = left[:size], left[size:]
            yield batch


def _own(output: Output, at: int, row: Sequence[int], task: Task) -> NDArray[np.float32]:
    """The logits of one text, without those of padding: [C], or [T, …] of a task that answers by token."""
    logits: NDArray[np.float32] = output.logits[at]
    return logits[: len(row)] if task in PER_TOKEN else logits


def _decide(logits: NDArray[np.float32], task: Task) -> NDArray[np.int64]:
    """What is decided by the logits of one text; no temperature changes it."""
    if task == "text-regression":
        return np.empty(0, dtype=np.int64)
    if task == "multi-label-classification":
        return (logits >= 0).astype(np.int64)  # a score of 0.5 and more
    return np.atleast_1d(logits.argmax(axis=-1)).astype(np.int64)
