"""What TensorRT's ONNX parser takes, checked before the GPU is asked: every problem at once, with its remedy.

Sources: https://github.com/onnx/onnx-tensorrt/blob/release/10.15-GA/docs/operators.md (operators, opsets),
https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html (opset 25 from 11.0 on),
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html (Q/DQ).

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from lnmt.errors import LnmtError
from lnmt.runtime.trt_build import INPUTS

Version = tuple[int, int]
LEAST_OPSET = 9
OPSETS: tuple[tuple[Version, int], ...] = (((11, 0), 25), ((10, 15), 24), ((10, 14), 23), ((10, 0), 20))
NEWEST: Version = (11, 0)
SINCE: Mapping[str, Version] = {
    "Attention": (10, 14),
    "RMSNormalization": (10, 15),
    "RotaryEmbedding": (10, 15),
    "TensorScatter": (10, 15),
}
NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Cast CastLike
Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace
DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
GroupNormalization HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow
QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round Scan ScatterElements ScatterND
Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
Sum Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(NAMES.split())
INPUT_TYPES = {TensorProto.INT32: "int32", TensorProto.INT64: "int64"}
SYMMETRIC = "quantise to int8 symmetrically: zero points 0, so that 0 stays 0"


def check_graph(path: Path, version: Version = NEWEST) -> None:
    """Raises LnmtError with every rule of this TensorRT that the ONNX file breaks."""
    found = problems(path, version)
    if found:
        raise LnmtError(
            f"TensorRT {'.'.join(map(str, version))} cannot take this graph: {found[0][0]}",
            where=path,
            value="; ".join(dict.fromkeys(problem for problem, _ in found)),
            fix="; ".join(dict.fromkeys(fix for _, fix in found)),
        )


def problems(path: Path, version: Version = NEWEST) -> list[tuple[str, str]]:
    """Every broken rule with its remedy; none where the parser should take the file."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        return [(f"it is no ONNX file: {error}", "export it again")]
    outside = list(_external(model, path.parent))
    if outside:
        return outside  # what stands outside is not read, and the other rules look at values
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # the same
        return [(f"its external data cannot be read: {error}", "write it again beside the model")]
    return [*_opset(model, version), *_operators(model, version), *_inputs(model), *_quantisation(model)]


def _opset(model: Any, version: Version) -> Iterator[tuple[str, str]]:
    newest = next((opset for since, opset in OPSETS if version >= since), 0)
    for entry in model.opset_import:
        if entry.domain in {"", "ai.onnx"} and not LEAST_OPSET <= entry.version <= newest:
            least = next(
                (f"install TensorRT {since[0]}.{since[1]} or newer" for since, top in reversed(OPSETS)
                 if top >= entry.version),
                "no TensorRT reads it",
            )  # fmt: skip
            yield (
                f"opset {entry.version}, where its parser reads {LEAST_OPSET} to {newest}",
                f"{least}, or export with opset {newest}",
            )


def _operators(model: Any, version: Version) -> Iterator[tuple[str, str]]:
    local = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if (node.domain, node.op_type) in local:
            continue
        where = f"{node.op_type} ({node.name or ', '.join(node.output)})"
        if node.domain not in {"", "ai.onnx"}:
            yield (
                f"operator {node.domain}.{where} is a runtime's own",
                "give it the graph as exported, not as ONNX Runtime optimised it",
            )
        elif node.op_type not in OPERATORS:
            yield f"operator {where} is not supported", _remedy(node.op_type)
        elif version < SINCE.get(node.op_type, version):
            since = ".".join(map(str, SINCE[node.op_type]))
            yield f"operator {where} came with TensorRT {since}", f"install TensorRT {since} or newer"


def _remedy(operator: str) -> str:
    if operator in {"DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv"}:
        return "TensorRT runs int8 by QuantizeLinear and DequantizeLinear alone: use static_int8, not dynamic_int8"
    return "write the model's forward without it, or drop tensorrt from params.yaml: optimize.engines"


def _inputs(model: Any) -> Iterator[tuple[str, str]]:
    fix = "export with inputs input_ids and attention_mask [batch, tokens]: the shapes that profiles are made for"
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    names = [entry.name for entry in inputs]
    if sorted(names) != sorted(INPUTS):
        yield f"inputs {names}, where the engine gives {list(INPUTS)}", fix
    for entry in inputs:
        kind = entry.type.tensor_type
        if entry.name not in INPUTS:
            unknown = [dim.dim_param or "?" for dim in kind.shape.dim if not dim.HasField("dim_value")]
            if unknown:
                yield f"input {entry.name} has dynamic dimensions {unknown} that no profile covers", fix
            continue
        if kind.elem_type not in INPUT_TYPES:
            found = TensorProto.DataType.Name(kind.elem_type).lower()
            yield f"input {entry.name} is {found}, not {' or '.join(INPUT_TYPES.values())}", fix
        if len(kind.shape.dim) != 2:
            yield f"input {entry.name} has {len(kind.shape.dim)} dimensions, not [B, T]", fix
        elif any(dim.HasField("dim_value") for dim in kind.shape.dim):
            sizes = [dim.dim_value or dim.dim_param for dim in kind.shape.dim]
            yield f"input {entry.name} is fixed to {sizes}, where profiles have ranges", fix


def _external(model: Any, directory: Path) -> Iterator[tuple[str, str]]:
    """External data that stands, or is linked to, outside of the model's directory."""
    root = directory.resolve()
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        inside = bool(place) and not PurePosixPath(place).is_absolute() and "\\" not in place
        if not inside or not (directory / place).resolve().is_relative_to(root):
            yield (
                f"external data of {tensor.name} points outside of the model's directory: {place!r}",
                "never load such a file; export it again from weights that you trust",
            )


def _quantisation(model: Any) -> Iterator[tuple[str, str]]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in _nodes(model):
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        where = f"{node.op_type} ({node.name or node.output[0]})"
        source, scale, zero = (*node.input, "", "")[:3]
        if scale not in constants:
            yield f"{where} has a scale that is no constant", "calibrate before: use static_int8"
            continue
        if zero:
            yield from _zero_point(where, constants.get(zero))
        elif node.op_type == "QuantizeLinear" and _attribute(node, "output_dtype") != TensorProto.INT8:
            yield f"{where} gives uint8, as it says no zero point and no output_dtype", SYMMETRIC
        if source in constants and node.op_type == "DequantizeLinear":
            kind = constants[source].data_type
            if kind != TensorProto.INT8:
                name = TensorProto.DataType.Name(kind).lower()
                yield f"{where} reads {name} weights, not int8", "leave biases in floats, and weights in int8"
        elif np.prod(constants[scale].dims) != 1:
            yield (
                f"{where} scales activations by channel: TensorRT does so for weights alone",
                "scale activations per tensor",
            )


def _zero_point(where: str, zero: Any) -> Iterator[tuple[str, str]]:
    if zero is None:
        yield f"{where} has a zero point that is no constant", "calibrate before: use static_int8"
    elif zero.data_type != TensorProto.INT8:
        name = TensorProto.DataType.Name(zero.data_type).lower()
        yield f"{where} is in {name}, not int8", SYMMETRIC
    elif np.any(numpy_helper.to_array(zero)):
        yield f"{where} has a zero point other than 0", SYMMETRIC


def _attribute(node: Any, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _nodes(model: Any) -> Iterable[Any]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: Any) -> Iterable[Any]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
