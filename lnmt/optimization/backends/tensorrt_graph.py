"""The export as TensorRT wants it: attention spelt out.

TensorRT's own reading of ONNX's Attention knows no softcap and no mask beside a causal one, and says nothing of the
type that the softmax is taken in. Spelt out the types are ours, and the same kernels are fused from the pattern:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/transformers-fused-attention.html (method 2).

Legend: B = rows, T = tokens, N = heads, D = width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lnmt.errors import LnmtError

LOWEST = np.float32(-1e30)  # a score that the softmax makes 0; bf16 holds it, and it is only added in fp32
FIX = "write the model's attention as torch's scaled_dot_product_attention of [B, N, T, D], without a cache"


def spell_out_attention(model: Any) -> Any:
    """A copy of `model` whose Attention nodes are MatMul, Add, Softmax, MatMul; the answers are the same.

    Raises LnmtError for forms that no model of ours exports: a cache, softcap, fewer heads of keys than of queries.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    if any(node.op_type == "Attention" for node in graph.node):
        types = infer_types(changed)
        speller = _Speller(types)
        nodes = [made for node in graph.node for made in (speller.spell(node) if _is_attention(node) else [node])]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(speller.constants)
        graph.ClearField("value_info")
    return changed


def infer_types(model: Any) -> dict[str, Any]:
    """Name of a value → its inferred TypeProto.Tensor. Raises LnmtError where the graph contradicts itself."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # the exporter's shapes of inner values are sometimes wrong, and then refuted; all of them can be inferred
    copy.graph.ClearField("value_info")
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise LnmtError(f"the graph's types contradict each other: {error}", fix="export it again") from error
    types = {entry.name: entry.type.tensor_type for entry in [*inferred.value_info, *inferred.input, *inferred.output]}
    for tensor in inferred.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)).tensor_type
    return types


def _is_attention(node: Any) -> bool:
    return node.op_type == "Attention" and node.domain in {"", "ai.onnx"}


class _Speller:
    """Writes nodes for one Attention after the other."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self.constants: list[Any] = []
        self._types = types
        self._nodes: list[Any] = []
        self._prefix = ""

    def spell(self, node: Any) -> list[Any]:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        query, key, value, mask = (*node.input, "", "")[:4]
        sizes = [self._sizes(name) for name in (query, key)]
        self._refuse(node, attributes, sizes)
        self._prefix, self._nodes = f"{node.output[0]}_spelt", []
        scale = attributes.get("scale") or 1 / math.sqrt(sizes[0][3])
        # before the product, where it keeps fp16 scores in range: the place that TensorRT's fusion wants
        scaled = self._add("Mul", [query, self._constant("scale", np.float32(scale))], "query")
        scores = self._add("MatMul", [scaled, self._add("Transpose", [key], "key", perm=[0, 1, 3, 2])], "scores")
        if mask:
            scores = self._masked(scores, mask)
        if attributes.get("is_causal"):
            scores = self._only(scores, self._causal(query, key), "causal")
        shares = self._add("Softmax", [scores], "shares", axis=-1)
        self._nodes.append(helper.make_node("MatMul", [shares, value], [node.output[0]], name=node.output[0]))
        return self._nodes

    def _sizes(self, name: str) -> list[int]:
        """Of each dimension; 0 for one that is only known when it runs."""
        return [dim.dim_value for dim in self._types[name].shape.dim] if name in self._types else []

    def _refuse(self, node: Any, attributes: Mapping[str, Any], sizes: Sequence[list[int]]) -> None:
        problem = None
        if any(node.input[4:]) or any(node.output[1:]):
            problem = "it reads or gives a cache"
        elif attributes.get("softcap"):
            problem = "it has a softcap"
        elif any(len(size) != 4 for size in sizes) or not sizes[0][3]:
            problem = "its queries and keys are not [B, N, T, D] with a D that is known"
        elif sizes[0][1] != sizes[1][1]:
            problem = f"it has {sizes[0][1]} heads of queries and {sizes[1][1]} of keys"
        if problem is not None:
            raise LnmtError(f"cannot spell out attention for TensorRT: {problem}", where=node.output[0], fix=FIX)

    def _masked(self, scores: str, mask: str) -> str:
        """Scores with what `mask` adds, or without what it forbids."""
        if self._types[mask].elem_type == TensorProto.BOOL:
            return self._only(scores, mask, "allowed")
        return self._add("Add", [scores, mask], "masked")

    def _only(self, scores: str, allowed: str, name: str) -> str:
        return self._add("Where", [allowed, scores, self._constant(f"{name}_lowest", LOWEST)], name)

    def _causal(self, query: str, key: str) -> str:
        """True where a query [T, 1] may look at a key [1, T]: at its own place and before."""
        zero, one = self._constant("zero", np.int64(0)), self._constant("one", np.int64(1))
        places = []
        for name, source, axis in (("rows", query, 1), ("columns", key, 0)):
            size = self._add("Shape", [source], f"{name}_shape", start=2, end=3)
            length = self._add("Squeeze", [size], f"{name}_length")
            numbers = self._add("Range", [zero, length, one], f"{name}_numbers")
            axes = self._constant(f"{name}_axis", np.array([axis]))
            places.append(self._add("Unsqueeze", [numbers, axes], name))
        return self._add("GreaterOrEqual", places, "before")

    def _add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        output = f"{self._prefix}_{name}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"{self._prefix}_{name}"))
        return f"{self._prefix}_{name}"
