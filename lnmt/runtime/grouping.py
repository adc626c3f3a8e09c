"""A padded batch cut into groups of rows of like length, so that short rows do not pay for the longest one.

On sentences padding is more than half of a batch; sorted and cut it is a tenth (docs/log.md has the figures).

Legend: B = rows of the batch, G = rows of a group, T = tokens of the batch, t = tokens of a group's longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.types import PER_TOKEN, Batch, Task

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits and pooled, as an engine gives them


@dataclass(frozen=True)
class Group:
    """Some rows of a batch."""

    places: NDArray[np.int64]  # [G], where they stand in it
    batch: Batch  # [G, t]


def cut(batch: Batch, group_rows: int | None, multiple: int) -> list[Group]:
    """The batch in groups of at most `group_rows` rows, those with the longest rows first.

    Each is padded to its longest row, rounded up to `multiple` where the batch is as wide. One group, the
    batch itself, where there is nothing to cut.
    """
    rows = len(batch.input_ids)
    if group_rows is None or rows <= group_rows:
        return [Group(np.arange(rows), batch)]
    lengths = _lengths(batch.attention_mask)
    order = np.argsort(-lengths, kind="stable")
    return [_group(batch, order[start : start + group_rows], lengths, multiple) for start in range(0, rows, group_rows)]


def join(groups: Sequence[Group], answers: Sequence[Arrays], batch: Batch, task: Task) -> Arrays:
    """The groups' answers in the places of their rows; logits by token are 0 where a group had no padding.

    Raises ValueError where an answer has not the shape of its group.
    """
    if len(groups) == 1:
        return answers[0]
    rows, width = batch.input_ids.shape
    first_logits, first_pooled = answers[0]
    by_token = task in PER_TOKEN
    lead = (rows, width) if by_token else (rows,)
    logits = np.zeros((*lead, *first_logits.shape[len(lead) :]), dtype=np.float32)
    pooled = np.empty((rows, *first_pooled.shape[1:]), dtype=np.float32)
    for group, (some_logits, some_pooled) in zip(groups, answers, strict=True):
        shape = group.batch.input_ids.shape  # numpy would spread one row over many without a word
        if some_logits.shape[: len(lead)] != shape[: len(lead)] or some_pooled.shape[0] != shape[0]:
            raise ValueError(f"logits {some_logits.shape} and pooled {some_pooled.shape} for a group {shape}")
        if by_token:
            logits[group.places, : group.batch.input_ids.shape[1]] = some_logits
        else:
            logits[group.places] = some_logits
        pooled[group.places] = some_pooled
    return logits, pooled


def _lengths(attention_mask: NDArray[np.int64]) -> NDArray[np.int64]:
    """[B, T] → [B], up to the last token of each row; 0 for a row of padding."""
    tokens = attention_mask.shape[1] - np.argmax(attention_mask[:, ::-1], axis=1)
    return np.where(attention_mask.any(axis=1), tokens, 0)


def _group(batch: Batch, places: NDArray[np.int64], lengths: NDArray[np.int64], multiple: int) -> Group:
    width = batch.input_ids.shape[1]
    longest = max(1, int(lengths[places[0]]))
    tokens = min(width, -(-longest // multiple) * multiple)
    # fancy indexing copies: contiguous, as back ends want it
    return Group(places, Batch(batch.input_ids[places, :tokens], batch.attention_mask[places, :tokens]))
