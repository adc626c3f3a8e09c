"""Every 8-bit compression on real tiny models of every task, in the real engines."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from onnx import numpy_helper

from lnmt.bundles import Bundle
from lnmt.optimization.backends.tensorrt_rules import problems
from lnmt.optimization.compressions import COMPRESSIONS, GraphCompression
from lnmt.optimization.compressions.dynamic_int8 import DynamicInt8
from lnmt.optimization.compressions.static_int8 import StaticInt8
from lnmt.optimization.compressions.weight_int8 import WeightInt8
from lnmt.types import Task
from tests.optimization.int8_kit import batches, compressed, exported, load, moved, run_files, run_onnx
from tests.task_bundle import task_bundle

TASKS: tuple[Task, ...] = get_args(Task)
PAIRS = [
    (DynamicInt8, "onnxruntime", 0.06),
    (StaticInt8, "onnxruntime", 0.1),
    (StaticInt8, "openvino", 0.1),
    (WeightInt8, "onnxruntime", 0.03),
    (WeightInt8, "openvino", 0.03),
]


@pytest.fixture(scope="module", params=TASKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle of each task, and its export."""
    root = tmp_path_factory.mktemp(request.param)
    bundle = task_bundle(root / "bundle", request.param)
    return bundle, exported(bundle, root / "work")


@pytest.mark.parametrize(("kind", "engine", "bound"), PAIRS)
def test_answers_stay_near_and_files_are_the_same_twice(
    made: tuple[Bundle, Path], tmp_path: Path, kind: type[GraphCompression], engine: str, bound: float
) -> None:
    bundle, graph = made
    seen, fresh = batches(bundle), batches(bundle, 16, seed=9)
    first, second = (compressed(kind(), graph, engine, tmp_path / name, seen) for name in ("first", "second"))
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert set(files) == ({"model.xml", "model.bin"} if engine == "openvino" else {"model.onnx"})
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}
    apart = [moved(run_onnx(graph, one), run_files(engine, first, one), one) for one in fresh]
    assert 0 < max(apart) < bound


def test_tensorrt_gets_symmetric_steps_and_a_scale_for_each_output(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, graph = made
    path = compressed(StaticInt8(), graph, "tensorrt", tmp_path / "trt", batches(bundle)) / "model.onnx"
    assert problems(path) == []
    model = load(path)
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in values]
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert weights
    assert activations
    for node in weights:
        whole, scales, zeros = (values[name] for name in node.input)
        axis = node.attribute[0].i
        assert (whole.dtype.name, len(scales), int(zeros.any())) == ("int8", whole.shape[axis], 0)
    for node in activations:
        scale, zero = (values[name] for name in node.input[1:])
        assert (scale.ndim, zero.dtype.name, int(zero)) == (0, "int8", 0)


def test_it_is_smaller_and_embeddings_are_most_of_that(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    _, graph = made
    for engine, name in (("onnxruntime", "model.onnx"), ("openvino", "model.bin")):
        whole = compressed(WeightInt8(), graph, engine, tmp_path / engine) / name
        part = compressed(WeightInt8(embeddings=False), graph, engine, tmp_path / f"{engine}-part") / name
        assert whole.stat().st_size < part.stat().st_size < graph.stat().st_size


def test_the_table_names_them() -> None:
    found = {name: COMPRESSIONS.get(name) for name in ("dynamic_int8", "static_int8", "weight_int8")}
    assert list(found.values()) == [DynamicInt8, StaticInt8, WeightInt8]
    assert {name: kind.form for name, kind in found.items()} == dict.fromkeys(found, "graph")
