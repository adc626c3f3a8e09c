"""The products of an ONNX graph that weights take part in, and the groups that are quantised or left together.

Legend: K = inputs, N = outputs of a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from lnmt.errors import LnmtError


@dataclass(frozen=True)
class Product:
    """One `MatMul` or `Gemm` with a constant matrix."""

    node: str  # its name
    weight: str  # the initializer
    stored: bool  # the initializer is [N, K], not [K, N]
    wanted: bool  # the node reads [N, K], not [K, N]


@dataclass(frozen=True)
class Group:
    """The products of one activation, such as a layer's query, key and value: one scale, and one decision."""

    name: str  # of the module that they stand in: `encoder.layer.0.attention.self`
    activation: str  # the value that they read, [..., K]
    products: tuple[Product, ...]


def load_graph(path: Path) -> Any:
    """The model at `path`. Raises LnmtError where it cannot be read, or has no product to quantise."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, onnx's own, or the system's
        raise LnmtError(f"the graph cannot be read: {error}", where=path, fix="export the model again") from error
    # The exporter's shapes of inner values are sometimes wrong, and then refuted; all of them can be inferred.
    model.graph.ClearField("value_info")
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    if not find_groups(model):
        raise LnmtError(
            "the graph has no products to quantise",
            where=path,
            value=", ".join(sorted({node.op_type for node in model.graph.node})) or "no operators",
            allowed="MatMul and Gemm with a constant matrix",
            fix="leave the compression out for this model",
        )
    return model


def find_groups(model: Any) -> list[Group]:
    """Groups of products in the order of the graph; products of two activations are not among them."""
    weights = {item.name: item for item in model.graph.initializer}
    turned = turned_over(model)
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, list[tuple[Product, str]]] = {}
    for node in model.graph.node:
        product = _product(node, weights, turned)
        if product is not None:
            found.setdefault(node.input[0], []).append((product, _told(readers, node, product)))
    groups: list[Group] = []
    taken: set[str] = set()
    for activation, pairs in found.items():
        name = _common([told for _, told in pairs])
        name = name if name not in taken else f"{name}:{pairs[0][0].node}"
        taken.add(name)
        groups.append(Group(name, activation, tuple(product for product, _ in pairs)))
    return groups


def matching(groups: Sequence[Group], globs: Sequence[str]) -> set[str]:
    """Names of the groups that some glob matches. Raises LnmtError for a glob that matches none."""
    names = [group.name for group in groups]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise LnmtError(
                "a pattern matches no products of the model",
                where="keep_float",
                value=glob,
                allowed=", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else ""),
                fix="patterns are matched against whole names, with * for any letters",
            )
    return {name for name in names if any(fnmatchcase(name, glob) for glob in globs)}


def matrix(model: Any, product: Product) -> NDArray[np.float32]:
    """The product's weights as [K, N]."""
    item = next(item for item in model.graph.initializer if item.name == product.weight)
    found: NDArray[np.float32] = numpy_helper.to_array(item).astype(np.float32)
    return found.T if product.stored else found


def turned_over(model: Any) -> dict[str, str]:
    """Values that are a matrix's transpose, by name → the matrix: embeddings that predict the next token as well."""
    return {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Transpose"
        and [list(item.ints) for item in node.attribute if item.name == "perm"] in ([], [[1, 0]])
    }


def _product(node: Any, weights: dict[str, Any], turned: dict[str, str]) -> Product | None:
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in weights:
        return None
    weight = turned.get(node.input[1], node.input[1])
    if weight not in weights or len(weights[weight].dims) != 2 or weights[weight].data_type != onnx.TensorProto.FLOAT:
        return None
    said = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if said.get("transA", 0) or said.get("alpha", 1.0) != 1.0:
        return None
    wanted = bool(said.get("transB", 0))
    return Product(node.name, weight, wanted != (node.input[1] in turned), wanted)


def _told(readers: dict[str, list[Any]], node: Any, product: Product) -> str:
    """The module of a product: by its weights; by its bias, whose name survives where weights are transposed.

    By its own name where the exporter has put several equal biases (zeros) under one name.
    """
    names = [product.weight, *node.input[2:]]
    for other in readers.get(node.output[0], []):
        if other.op_type == "Add":
            names += [name for name in other.input if name != node.output[0]]
    modules = [
        name.rpartition(".")[0]
        for name in names
        if name.endswith((".weight", ".bias")) and (name == product.weight or len(readers[name]) == 1)
    ]
    name: str = modules[0] if modules else node.name
    return name.removeprefix("model.").removeprefix("encoder.encoder.")


def _common(names: Sequence[str]) -> str:
    """The module that all of `names` stand in; of one name itself."""
    if len(names) == 1:
        return names[0]
    parts = []
    for level in zip(*(name.split(".") for name in names), strict=False):  # the shortest name ends it
        if len(set(level)) > 1:
            break
        parts.append(level[0])
    return ".".join(parts) or "+".join(names)
