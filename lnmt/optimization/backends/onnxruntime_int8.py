"""The ONNX export with 8-bit weights, by ONNX Runtime's own tools.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from lnmt.types import Batch

# The products that weights take part in; the rest costs little, and loses more by rounding.
OPERATORS = ["MatMul", "Gemm"]


def quantize_onnx(source: Path, target: Path, calibration: Sequence[Batch] | None) -> None:
    """Write `source` with int8 weights, a scale for each output channel, to `target`.

    `calibration` None: activations are scaled batch by batch as they come ("dynamic"). Else by the largest and
    smallest values that they took on these batches ("static").
    """
    model = onnx.load(source)
    # The exporter's shapes of inner values are sometimes wrong, and then refuted; all of them can be inferred.
    model.graph.ClearField("value_info")
    with _quiet():
        if calibration is None:
            quantize_dynamic(
                model, target, op_types_to_quantize=OPERATORS, per_channel=True, weight_type=QuantType.QInt8
            )
        else:
            quantize_static(
                model,
                target,
                _Batches(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Batches as ONNX Runtime asks for them: one more each time, None at the end."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._left, None)
        return None if batch is None else {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


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
