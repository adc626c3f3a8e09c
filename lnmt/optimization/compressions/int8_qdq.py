"""Groups of products in the form that every engine reads as 8-bit: QuantizeLinear and DequantizeLinear around them.

x · W becomes DQ(Q(x / s)) · DQ(s · W in int8). The result stays in floats, so that nothing else is rounded.

Legend: K = inputs, N = outputs of a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lnmt.optimization.compressions.int8_products import Group, Product, matrix
from lnmt.optimization.compressions.int8_ranges import quantised, weight_scales
from lnmt.optimization.compressions.int8_scales import GroupScales


class Rewriting:
    """A copy of a graph under change: nodes that come before a product, weights that are there once."""

    def __init__(self, model: Any) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def activation(self, group: Group, scales: GroupScales) -> tuple[str, str]:
        """The smoothed activation, and what 8 bits leave of it."""
        name = f"{group.name}.activation"
        value = group.activation
        if scales.divisor is not None:
            factor = self.constant(f"{name}.smoothing", (1 / scales.divisor).astype(np.float32))
            value = self.add("Mul", [value, factor], f"{name}.smoothed")
        kind = np.int8 if scales.activation.symmetric else np.uint8
        scale = [
            self.constant(f"{name}.scale", np.array(scales.activation.scale, np.float32)),
            self.constant(f"{name}.zero", np.array(scales.activation.zero, kind)),
        ]
        steps = self.add("QuantizeLinear", [value, *scale], f"{name}.int8")
        return value, self.add("DequantizeLinear", [steps, *scale], f"{name}.rounded")

    def weights(self, product: Product, moved: NDArray[np.float32]) -> str:
        """What 8 bits leave of `moved` [K, N], in the layout of the product."""
        steps, axis = weight_scales(moved), 0 if product.wanted else 1
        whole = quantised(moved, steps)
        name = f"{product.node}.weight"
        parts = [
            self.constant(f"{name}.int8", whole.T if product.wanted else whole),
            self.constant(f"{name}.scale", steps),
            self.constant(f"{name}.zero", np.zeros(len(steps), np.int8)),
        ]
        return self.add("DequantizeLinear", parts, f"{name}.rounded", axis=axis)

    def done(self) -> Any:
        """The model, without what nothing reads any more."""
        graph = self.model.graph
        read = {item.name for item in graph.output}
        kept = []
        for node in reversed(self.nodes):
            if read & set(node.output):
                read |= set(node.input)
                kept.append(copied(node))
        graph.ClearField("node")
        graph.node.extend(reversed(kept))
        left = [item for item in graph.initializer if item.name in read]
        graph.ClearField("initializer")
        graph.initializer.extend(left)
        return self.model


def with_qdq(
    model: Any, groups: Sequence[Group], scales: Mapping[str, GroupScales], keep: frozenset[str] = frozenset()
) -> Any:
    """A copy of `model` whose groups are quantised, all but those that `keep` names."""
    work = Rewriting(model)
    by_node = {product.node: (group, product) for group in groups for product in group.products}
    rounded: dict[str, str] = {}
    for node in work.model.graph.node:
        group, product = by_node.get(node.name, (None, None))
        if group is not None and product is not None and group.name not in keep:
            if group.name not in rounded:
                rounded[group.name] = work.activation(group, scales[group.name])[1]
            node.input[0] = rounded[group.name]
            node.input[1] = work.weights(product, _moved(model, product, scales[group.name]))
        work.nodes.append(copied(node))
    return work.done()


def with_switches(model: Any, groups: Sequence[Group], scales: Mapping[str, GroupScales]) -> Any:
    """The same, with an input for each group (`switch(group)`, a bool) that says whether it is quantised.

    One graph, loaded once, stands for every choice: for measuring, not for shipping.
    """
    work = Rewriting(model)
    by_node = {product.node: (group, product) for group in groups for product in group.products}
    chosen: dict[str, str] = {}
    for node in work.model.graph.node:
        group, product = by_node.get(node.name, (None, None))
        if group is not None and product is not None:
            on = switch(group)
            if group.name not in chosen:
                exact, rounded = work.activation(group, scales[group.name])
                chosen[group.name] = work.add("Where", [on, rounded, exact], f"{group.name}.activation.chosen")
            moved = _moved(model, product, scales[group.name])
            both = [
                work.weights(product, moved),
                work.constant(f"{product.node}.moved", moved.T if product.wanted else moved),
            ]
            node.input[0] = chosen[group.name]
            node.input[1] = work.add("Where", [on, *both], f"{product.node}.weight.chosen")
        work.nodes.append(copied(node))
    work.model.graph.input.extend(
        helper.make_tensor_value_info(switch(group), onnx.TensorProto.BOOL, []) for group in groups
    )
    return work.done()


def switch(group: Group) -> str:
    """The input that turns a group's quantisation on."""
    return f"{group.name}.on"


def _moved(model: Any, product: Product, scales: GroupScales) -> NDArray[np.float32]:
    weights = matrix(model, product)
    return weights if scales.divisor is None else weights * scales.divisor[:, None]


def copied(node: Any) -> Any:
    """A node that outlives the list it stands in."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
