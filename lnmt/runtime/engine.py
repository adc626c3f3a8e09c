"""What runs a bundle.

Legend: B = rows, T = tokens, C = labels, H = pooled width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.types import Batch, Output


class Engine(Protocol):
    """One back end with one bundle loaded. Not thread-safe: one caller at a time."""

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        """Read the model. `threads` of the back end (None: one per core); `cache` keeps compiled blobs."""

    def warm_up(self) -> None:
        """Run once, so that the first request pays for nothing."""

    def infer(self, batch: Batch) -> Output:
        """logits [B, C] and pooled [B, H] of a padded batch. Raises LnmtError where one is not finite."""

    def close(self) -> None:
        """Give its memory back; the engine is not used again."""


def warm_up_batch(width: int = 8) -> Batch:
    """One row of token 1 [1, width]: every vocabulary has it."""
    ones = np.ones((1, width), dtype=np.int64)
    return Batch(ones, ones.copy())


def checked_output(engine: str, batch: Batch, logits: NDArray[np.float32], pooled: NDArray[np.float32]) -> Output:
    """The engine's raw arrays as an Output; refuses NaN, infinity and a wrong number of rows."""
    rows = len(batch.input_ids)
    for name, array in (("logits", logits), ("pooled", pooled)):
        if array.ndim != 2 or len(array) != rows:
            raise LnmtError(
                f"engine {engine!r} gave {name} of a wrong shape",
                where=f"{engine}.infer",
                value=array.shape,
                allowed=f"[{rows}, …]",
                fix="make the bundle again: lnmt run",
            )
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise LnmtError(
                f"engine {engine!r} gave {name} that are not finite",
                where=f"{engine}.infer",
                value=f"rows {np.flatnonzero(~finite)[:10].tolist()} of {rows}",
                allowed="finite numbers",
                fix="the weights or this precision overflow: serve models/reference, and train again",
            )
    return Output(logits, pooled)
