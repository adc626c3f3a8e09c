"""An engine that takes the real one's time and none of its CPU: a plugin of the project that `overhead.py` makes.

It sleeps for as long as the real engine takes for such a batch, so that requests meet and batches form as they do
with it, and answers with zeros.

Legend: B = rows, T = tokens, C = labels, H = width.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from lnmt.bundles import Bundle
from lnmt.runtime import ENGINES
from lnmt.runtime.engine import warm_up_batch
from lnmt.types import Batch, Output


@ENGINES.register("stand_in")
class StandIn:
    """`evidence` of the bundle holds `fixed_s` of a batch, `by_token_s` of its padded tokens, and H as `width`."""

    def __init__(self) -> None:
        self._labels = 0
        self._evidence: dict[str, Any] = {}

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        self._labels, self._evidence = len(bundle.manifest.labels), bundle.manifest.evidence

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        rows = len(batch.input_ids)
        time.sleep(self._evidence["fixed_s"] + self._evidence["by_token_s"] * batch.input_ids.size)
        width = int(self._evidence["width"])
        return Output(np.zeros((rows, self._labels), dtype=np.float32), np.zeros((rows, width), dtype=np.float32))

    def close(self) -> None:
        self._labels = 0
