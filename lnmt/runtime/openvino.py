"""OpenVINO on the CPU.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.capabilities import available_cores
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.signal_stack import kept_signal_stack
from lnmt.types import Batch, Output, Task

MODEL = "model.xml"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """Runs `model.xml` with `model.bin`; inputs `input_ids`, `attention_mask` [B, T], outputs `logits`, `pooled`.

    The precision is always said: left to itself OpenVINO takes bf16 wherever the CPU has it.
    """

    def __init__(self) -> None:
        self._request: Any = None
        self._task: Task

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        model = bundle.file(MODEL)
        bundle.file("model.bin")
        self._task = bundle.manifest.task
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": PRECISIONS[bundle.manifest.precision],
            "INFERENCE_NUM_THREADS": str(threads or available_cores()),
        }
        if cache is not None:
            # A cached blob has no digest: one for each bundle, and without weights, which stay in the verified file.
            settings["CACHE_DIR"] = str(cache / "openvino" / bundle.digest.removeprefix("sha256:")[:16])
            settings["CACHE_MODE"] = "OPTIMIZE_SIZE"
        try:
            with kept_signal_stack():
                compiled = openvino.Core().compile_model(str(model), "CPU", settings)
                self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise LnmtError(
                f"OpenVINO cannot load the model: {error}", where=model, fix="make the bundle again: lnmt optimize"
            ) from error

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        with explained("openvino", batch):
            # Copies: the request's own tensors are overwritten by the next call.
            result = self._request.infer(feed, share_inputs=True)
            logits, pooled = result["logits"].copy(), result["pooled"].copy()
        return checked_output("openvino", batch, logits, pooled, self._task)

    def close(self) -> None:
        with kept_signal_stack():
            self._request = None
