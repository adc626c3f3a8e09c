"""What ONNX Runtime does for quantisation: runs graphs for their inner values, and quantises as values come.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from lnmt.errors import LnmtError
from lnmt.runtime.cpu import available_cores
from lnmt.types import Batch

# The products that weights take part in; the rest costs little, and loses more by rounding.
OPERATORS = ["MatMul", "Gemm"]


class GraphRun:
    """A graph in ONNX Runtime, asked for any of its outputs. Nothing is fused to 8 bits: it runs as it stands."""

    def __init__(self, model: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen classes of its own, straight from C++
            raise LnmtError(
                f"ONNX Runtime cannot load the graph: {_first_line(error)}", fix="export the model again"
            ) from error

    def __call__(
        self, batch: Batch, outputs: Sequence[str], more: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[Any]]:
        """`outputs` for one batch; `more` are the graph's further inputs.

        Raises LnmtError where the graph refuses the batch: token ids that it has no row for, more tokens than it takes.
        """
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **(more or {})}
        try:
            if batch.input_ids.min(initial=0) < 0:
                raise ValueError("a token id is negative")  # Gather would count from the end
            found: list[NDArray[Any]] = self._session.run(list(outputs), feed)
        except Exception as error:  # as above
            raise LnmtError(
                f"the model cannot run a calibration batch: {_first_line(error)}",
                where="calibration",
                value=f"shape {list(batch.input_ids.shape)}, token ids "
                f"{int(batch.input_ids.min(initial=0))}…{int(batch.input_ids.max(initial=0))}",
                fix="calibrate on texts that this model's own tokenizer has cut",
            ) from error
        return found


def quantize_as_they_come(model: Any, target: Path) -> None:
    """Write `model` with int8 weights, a scale for each output channel; activations are scaled batch by batch."""
    with _quiet():
        quantize_dynamic(model, target, op_types_to_quantize=OPERATORS, per_channel=True, weight_type=QuantType.QInt8)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Its advice to prepare the graph with another tool of its own, which does not take graphs of this opset."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
