"""ONNX Runtime on the CPU.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.capabilities import available_cores
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.types import Batch, Output, Task

MODEL = "model.onnx"


class OnnxRuntimeEngine:
    """Runs `model.onnx`; its inputs are `input_ids` and `attention_mask` [B, T], its outputs `logits` and `pooled`."""

    def __init__(self) -> None:
        self._session: Any = None
        self._task: Task

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        model = bundle.file(MODEL)
        self._task = bundle.manifest.task
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Workers spin while a call runs (that is faster) but not after it: the cores belong to the next caller.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen classes of its own, straight from C++
            raise LnmtError(
                f"ONNX Runtime cannot load the model: {error}", where=model, fix="make the bundle again: lnmt optimize"
            ) from error

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        with explained("onnxruntime", batch):
            logits, pooled = self._session.run(["logits", "pooled"], feed)
        return checked_output("onnxruntime", batch, logits, pooled, self._task)

    def close(self) -> None:
        self._session = None
