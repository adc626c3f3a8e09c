"""Graphs for TensorRT's rules: the real exports of tiny models, and small ones that are bad on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnmt.types import Batch

VALUE = helper.make_tensor_value_info


def batch(rows: int = 3, tokens: int = 16, seed: int = 0) -> Batch:
    """Token ids that every tiny vocabulary has; the second row is half padding."""
    ids = np.random.default_rng(seed).integers(4, 60, (rows, tokens))
    mask = np.ones_like(ids)
    mask[1:2, max(tokens // 2, 1) :] = 0
    return Batch(ids, mask)


def run_graph(path: Path, sent: Batch) -> list[NDArray[np.float32]]:
    """Logits and pooled states by ONNX Runtime on the CPU, its optimisations off: the graph as it is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"input_ids": sent.input_ids, "attention_mask": sent.attention_mask}
    found: list[NDArray[np.float32]] = session.run(["logits", "pooled"], feed)
    return found


def quantise(graph: Path, target: Path, *, symmetric: bool = True) -> Path:
    """`graph` with int8 Q/DQ around its products, calibrated on one batch."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Once(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            sent = batch()
            self._left = iter([{"input_ids": sent.input_ids, "attention_mask": sent.attention_mask}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    model = onnx.load(graph)
    model.graph.ClearField("value_info")
    quantize_static(
        model,
        target,
        Once(),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )
    return target


def save(
    path: Path, nodes: list[Any], *, opset: int = 23, constants: dict[str, Any] | None = None, **change: Any
) -> Path:
    """A graph of `nodes` from input_ids and attention_mask [batch, tokens] to logits and pooled."""
    inputs = change.get("inputs") or [VALUE(name, TensorProto.INT64, ["batch", "tokens"]) for name in NAMES]
    outputs = [VALUE(name, TensorProto.FLOAT, None) for name in ("logits", "pooled")]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "bad", inputs, outputs, tensors)
    imports = [
        helper.make_opsetid(domain, version) for domain, version in {"": opset, **change.get("domains", {})}.items()
    ]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())
    return path


NAMES = ("input_ids", "attention_mask")
