"""An fp32 graph in fp16 or bf16, with onnx alone: a strongly typed TensorRT network takes every type from its graph.

Products of matrices are low, and what moves or activates their results; norms, softmax, sums and the residual stream
stay fp32, as under PyTorch's autocast: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lnmt.errors import LnmtError
from lnmt.optimization.backends.tensorrt_graph import infer_types
from lnmt.types import Precision

TYPES: Mapping[Precision, tuple[int, Any, float]] = {  # ONNX's type, numpy's, its largest number
    "fp16": (TensorProto.FLOAT16, np.float16, 65504.0),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 3.3895313892515355e38),
}
PRODUCTS = frozenset({"MatMul", "Gemm", "DequantizeLinear"})
# Low where all that they read, constants aside, is low: a bias after a product, but not the residual sum.
# fmt: off
FOLLOWERS = frozenset({
    "Add", "Mul", "Neg", "Gelu", "Relu", "Tanh", "Sigmoid", "QuantizeLinear",
    "Reshape", "Transpose", "Concat", "Split", "Slice", "Squeeze", "Unsqueeze",
    "Expand", "Flatten", "Identity", "Where",
})
# fmt: on
ANY_TYPE = frozenset({"Cast", "Shape", "Size"})  # what they give has a type of its own


def lower_precision(model: Any, precision: Precision) -> Any:
    """A copy of `model` at `precision`; its inputs and outputs keep their types. At fp32 nothing changes.

    Constants beyond the range of fp16 become its largest number, not infinity.
    Raises LnmtError for a graph with branches or loops: what they read from outside would change its type.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if precision != "fp32":
        _refuse_branches(model)
        _Lowering(changed.graph, infer_types(changed), *TYPES[precision]).run()
        changed.graph.ClearField("value_info")
    return changed


def _refuse_branches(model: Any) -> None:
    inner = [node for node in model.graph.node for entry in node.attribute if entry.HasField("g")]
    if inner:
        raise LnmtError(
            "a graph with branches or loops cannot be made fp16 or bf16",
            where=inner[0].name or inner[0].output[0],
            value=", ".join(sorted({node.op_type for node in inner})),
            fix="write the model's forward without them, or take fp32 for this engine: params.yaml: optimize",
        )


class _Lowering:
    """One pass over the nodes, in their order."""

    def __init__(self, graph: Any, types: Mapping[str, Any], low: int, dtype: Any, most: float) -> None:
        self._graph = graph
        self._low_type = low
        self._dtype = dtype
        self._most = most
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._floats = {name for name, kind in types.items() if kind.elem_type == TensorProto.FLOAT}
        self._low: set[str] = set()  # values that are low now
        self._made: dict[tuple[str, bool], str] = {}  # (value, low) → its copy of that type
        self._nodes: list[Any] = []

    def run(self) -> None:
        for node in self._graph.node:
            self._lift(node)
            if node.op_type not in ANY_TYPE:
                self._convert(node)
            self._nodes.append(node)
        for output in self._graph.output:
            if output.name in self._low:
                self._give_back(output.name)
        self._replace()

    def _lift(self, node: Any) -> None:
        """A Constant node's tensor is a constant like the others; the node goes when nothing reads it."""
        if node.op_type == "Constant" and node.output[0] in self._floats:
            tensor = next((entry.t for entry in node.attribute if entry.name == "value"), None)
            if tensor is not None:
                self._constants[node.output[0]] = tensor

    def _convert(self, node: Any) -> None:
        floats = [(place, name) for place, name in enumerate(node.input) if name in self._floats]
        low = self._is_low(node, [name for _, name in floats])
        for place, name in floats:
            if low != (name in self._low):
                node.input[place] = self._as(name, low=low)
        if low:
            self._low.update(name for name in node.output if name in self._floats)

    def _is_low(self, node: Any, floats: list[str]) -> bool:
        if node.op_type in PRODUCTS:
            return True
        if node.op_type == "Gather":
            # an embedding table: half the memory, and its rows are cast back at once where they are summed
            return node.input[0] in self._constants and node.input[0] in self._floats
        moving = [name for name in floats if name not in self._constants]
        if node.op_type == "Add" and len(moving) > 1:
            return False  # the residual stream, sums of embeddings
        return node.op_type in FOLLOWERS and bool(moving) and all(name in self._low for name in moving)

    def _as(self, name: str, *, low: bool) -> str:
        """The value `name` in the other type."""
        key = (name, low)
        if key not in self._made:
            kind = self._low_type if low else TensorProto.FLOAT
            copy = f"{name}_{TensorProto.DataType.Name(kind).lower()}"
            if name in self._constants:
                self._graph.initializer.append(self._rounded(name, copy))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [copy], name=copy, to=kind))
            self._made[key] = copy
            if low:
                self._low.add(copy)
        return self._made[key]

    def _rounded(self, name: str, copy: str) -> Any:
        array = numpy_helper.to_array(self._constants[name]).clip(-self._most, self._most).astype(self._dtype)
        return helper.make_tensor(copy, self._low_type, array.shape, array.tobytes(), raw=True)

    def _give_back(self, name: str) -> None:
        """The graph's output `name` stays fp32: its maker writes another value, which is cast."""
        inner = f"{name}_low"
        for node in self._nodes:
            for values in (node.input, node.output):
                for place, value in enumerate(values):
                    if value == name:
                        values[place] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}_cast", to=TensorProto.FLOAT))

    def _replace(self) -> None:
        read = {name for node in self._nodes for name in node.input}
        read.update(output.name for output in self._graph.output)
        kept = [node for node in self._nodes if any(name in read for name in node.output)]
        tensors = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(kept)
        self._graph.initializer.extend(tensors)
