"""When a batch leaves: pure decisions, from figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lnmt.runtime.options import Options

Reason = Literal["full", "nobody else", "longest wait", "gain below cost"]


@dataclass(frozen=True)
class Waiting:
    """What the queue of an idle engine looks like."""

    rows: int
    expected_rows: int  # that were in the service at once lately, these included
    oldest_s: float  # since the oldest row came
    gap_s: float  # between two rows that come, lately
    full: bool  # no more fit into one batch


def release(waiting: Waiting, *, fixed_s: float, max_wait_s: float) -> Reason | float:
    """Why a batch should leave now; else the seconds after which to look again.

    Another row comes after about `gap_s`, for which every waiting row would wait; in the same batch it
    saves the batch of its own, `fixed_s`. Waiting is worth it while rows × gap < fixed. Where all who
    were here lately are here already, nobody is waited for: a lone client never waits.
    """
    if waiting.full:
        return "full"
    if waiting.expected_rows <= waiting.rows:
        return "nobody else"
    if waiting.oldest_s >= max_wait_s:
        return "longest wait"
    if waiting.rows * waiting.gap_s >= fixed_s:
        return "gain below cost"
    return min(waiting.gap_s, max_wait_s - waiting.oldest_s)


def padded_tokens(widths: Sequence[int], options: Options) -> int:
    """The tokens that an engine with these options computes for rows of these widths, padding included.

    Without groups every row is as wide as the widest; with them, sorted rows share a width by
    `group_size` (lnmt/runtime/grouping.py).
    """
    ordered = sorted(widths, reverse=True)
    step = options.group_size(len(ordered))
    return sum(ordered[start] * len(ordered[start : start + step]) for start in range(0, len(ordered), step))
