"""What runs a bundle.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.types import PER_TOKEN, Batch, Output, Task


class Engine(Protocol):
    """One back end with one bundle loaded. Not thread-safe: one caller at a time."""

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        """Read the model. `threads` of the back end (None: one per core); `cache` keeps compiled blobs."""

    def warm_up(self) -> None:
        """Run once, so that the first request pays for nothing."""

    def infer(self, batch: Batch) -> Output:
        """Logits and pooled states of a padded batch, as `checked_output` wants them.

        Raises LnmtError where the model cannot run it, or gives what is not finite.
        """

    def close(self) -> None:
        """Give its memory back; the engine is not used again."""


def warm_up_batch(width: int = 8) -> Batch:
    """One row of token 1 [1, width]: every vocabulary has it."""
    ones = np.ones((1, width), dtype=np.int64)
    return Batch(ones, ones.copy())


@contextmanager
def explained(engine: str, batch: Batch) -> Iterator[None]:
    """What a back end or a plugin's model raises while it runs `batch`, as an LnmtError that says so."""
    try:
        yield
    except LnmtError:
        raise
    except Exception as error:  # back ends raise classes of their own from C++, a plugin's forward raises anything
        raise LnmtError(
            f"engine {engine!r} cannot run a batch: {type(error).__name__}: {str(error).strip()[:300]}",
            where=f"{engine}.infer",
            value=f"input_ids {list(batch.input_ids.shape)}",
            fix="mend the model's forward, or leave this engine or precision out of params.yaml: optimize",
        ) from error


def checked_output(
    engine: str, batch: Batch, logits: NDArray[np.float32], pooled: NDArray[np.float32], task: Task
) -> Output:
    """The engine's raw arrays as an Output: logits [B, C], or [B, T, …] of a task that answers by token, pooled [B, H].

    Raises LnmtError for another shape, and for NaN or infinity anywhere but in the logits of padding.
    """
    rows, tokens = batch.input_ids.shape
    lead = (rows, tokens) if task in PER_TOKEN else (rows,)
    for name, array, start in (("logits", logits, lead), ("pooled", pooled, (rows,))):
        if array.ndim != len(start) + 1 or array.shape[:-1] != start:
            raise LnmtError(
                f"engine {engine!r} gave {name} of a wrong shape",
                where=f"{engine}.infer",
                value=array.shape,
                allowed=f"{[*start, '…']} for {task}",
                fix="make the bundle again: lnmt run",
            )
        # NaN and infinities show in the extremes: no array of booleans as large as the logits of a vocabulary
        finite = np.isfinite(array.max(axis=-1, initial=0.0)) & np.isfinite(array.min(axis=-1, initial=0.0))
        if finite.ndim == 2:
            finite = (finite | (batch.attention_mask == 0)).all(axis=1)
        if not finite.all():
            raise LnmtError(
                f"engine {engine!r} gave {name} that are not finite",
                where=f"{engine}.infer",
                value=f"rows {np.flatnonzero(~finite)[:10].tolist()} of {rows}",
                allowed="finite numbers",
                fix="the weights or this precision overflow: serve models/reference, and train again",
            )
    return Output(logits, pooled)
