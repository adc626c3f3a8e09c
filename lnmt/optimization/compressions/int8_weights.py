"""Matrices and embedding tables as int8, turned to floats where they are read.

Legend: K = inputs, N = outputs of a product, V = rows of a table, H = its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import numpy_helper

from lnmt.optimization.compressions.int8_products import Group, matrix
from lnmt.optimization.compressions.int8_qdq import Rewriting, copied
from lnmt.optimization.compressions.int8_ranges import quantised, weight_scales


def with_dequantised(model: Any, groups: Sequence[Group]) -> Any:
    """A copy of `model` whose products read DequantizeLinear of int8 weights, with a scale for each output.

    ONNX Runtime's own MatMulNBits was tried instead: at batch 1 it takes twice to three times as long in floats, and is
    fast only where it rounds activations too.
    """
    work = Rewriting(model)
    products = {product.node: product for group in groups for product in group.products}
    for node in work.model.graph.node:
        if node.name in products:
            product = products[node.name]
            node.input[1] = work.weights(product, matrix(model, product))
        work.nodes.append(copied(node))
    return work.done()


def with_int8_tables(model: Any) -> Any:
    """A copy of `model` whose embedding tables [V, H] are int8 with a scale for each row.

    The rows are gathered as int8 and turned to floats afterwards: exactly what a table in floats would have given.
    """
    work = Rewriting(model)
    tables = {
        item.name: item
        for item in model.graph.initializer
        if len(item.dims) == 2 and item.data_type == onnx.TensorProto.FLOAT
    }
    for node in work.model.graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables or _axis(node) != 0:
            work.nodes.append(copied(node))
            continue
        table, output = node.input[0], node.output[0]
        rows = numpy_helper.to_array(tables[table]).T  # [H, V]: a row of the table is an output of a product
        scales = weight_scales(rows)
        whole = work.constant(f"{table}.{node.name}.int8", quantised(rows, scales).T)
        steps = work.constant(f"{table}.{node.name}.scale", scales[:, None])
        picked = work.add("Gather", [whole, node.input[1]], f"{output}.int8", axis=0)
        scale = work.add("Gather", [steps, node.input[1]], f"{output}.scale", axis=0)
        cast = work.add("Cast", [picked], f"{output}.steps", to=onnx.TensorProto.FLOAT)
        work.add("Mul", [cast, scale], output)
    return work.done()


def _axis(node: Any) -> int:
    return next((int(item.i) for item in node.attribute if item.name == "axis"), 0)
