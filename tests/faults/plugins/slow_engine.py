"""An engine that takes as long as it is told: PyTorch's, after a sleep in which other threads run, as beside a GPU.

slow_engine.json: `batch_s` and `row_s`, the seconds of a batch and of each row in it; `log`, a file for what it
ran and when (monotonic seconds), or null.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from lnmt.bundles import Bundle
from lnmt.runtime import ENGINES, Engine
from lnmt.types import Batch, Output


@ENGINES.register("slow")
class SlowEngine:
    """Runs one batch in `batch_s` + rows · `row_s`, and what PyTorch takes."""

    def __init__(self) -> None:
        told = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
        self._batch_s: float = told["batch_s"]
        self._row_s: float = told["row_s"]
        self._log = None if told["log"] is None else Path(told["log"])
        self._inner: Engine = ENGINES.get("torch")()

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        self._inner.load(bundle, threads=threads, cache=cache)

    def warm_up(self) -> None:
        self._inner.warm_up()

    def infer(self, batch: Batch) -> Output:
        began = time.monotonic()
        time.sleep(self._batch_s + len(batch.input_ids) * self._row_s)
        output = self._inner.infer(batch)
        if self._log is not None:
            rows = [ids[mask == 1].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"began": began, "ended": time.monotonic(), "rows": rows}) + "\n")
        return output

    def close(self) -> None:
        self._inner.close()
