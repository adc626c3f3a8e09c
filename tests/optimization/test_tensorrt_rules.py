from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lnmt.errors import LnmtError
from lnmt.optimization.backends import Source
from lnmt.optimization.backends.tensorrt_rules import NEWEST, OPERATORS, SINCE, check_graph, problems
from lnmt.optimization.export import export_onnx
from tests.optimization.graphs import NAMES, VALUE, quantise, save
from tests.tiny_bundle import tiny_bundle

NODE = helper.make_node


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    return export_onnx(Source(tiny_bundle(root / "bundle"), root))


def test_int8_by_symmetric_qdq_is_taken(export: Path, tmp_path: Path) -> None:
    path = quantise(export, tmp_path / "int8.onnx")
    assert sum(node.op_type == "DequantizeLinear" for node in onnx.load(path).graph.node) > 12
    assert problems(path) == []


def test_int8_with_zero_points_is_refused(export: Path, tmp_path: Path) -> None:
    path = quantise(export, tmp_path / "uint8.onnx", symmetric=False)
    with pytest.raises(LnmtError, match=r"cannot take this graph(?s:.*)is in uint8, not int8(?s:.*)symmetrically"):
        check_graph(path)


def test_dynamic_int8_is_refused_with_what_to_use(export: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    model = onnx.load(export)
    model.graph.ClearField("value_info")
    quantize_dynamic(model, tmp_path / "dynamic.onnx", op_types_to_quantize=["MatMul"])
    with pytest.raises(LnmtError, match=r"DynamicQuantizeLinear(?s:.*)is not supported(?s:.*)use static_int8"):
        check_graph(tmp_path / "dynamic.onnx")


def test_what_onnxruntime_optimised_is_refused(export: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(export), options, providers=["CPUExecutionProvider"])
    with pytest.raises(LnmtError, match=r"operator com\.microsoft\.\w+(?s:.*)is a runtime's own"):
        check_graph(tmp_path / "fused.onnx")


@pytest.mark.parametrize(
    ("version", "opset", "fix"),
    [
        ((11, 0), 26, "no TensorRT reads it, or export with opset 25"),
        ((10, 15), 25, "install TensorRT 11.0 or newer, or export with opset 24"),
        ((10, 14), 24, "install TensorRT 10.15 or newer, or export with opset 23"),
        ((10, 0), 23, "install TensorRT 10.14 or newer, or export with opset 20"),
        ((11, 0), 8, "install TensorRT 10.0 or newer, or export with opset 25"),
    ],
)
def test_an_opset_out_of_range(tmp_path: Path, version: tuple[int, int], opset: int, fix: str) -> None:
    path = save(tmp_path / "m.onnx", [NODE("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)], opset=opset)
    assert [found for _, found in problems(path, version)] == [fix]


@pytest.mark.parametrize("operator", sorted(SINCE))
def test_an_operator_that_came_later(tmp_path: Path, operator: str) -> None:
    path = save(tmp_path / "m.onnx", [NODE(operator, ["input_ids"], ["logits"])], opset=20)
    major, minor = SINCE[operator]
    assert problems(path, SINCE[operator]) == []
    assert problems(path, (major, minor - 1)) == [
        (
            f"operator {operator} (logits) came with TensorRT {major}.{minor}",
            f"install TensorRT {major}.{minor} or newer",
        )
    ]


def test_the_operators_are_onnxs_own() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    # Swish and others of newer opsets came after the table that this follows
    assert OPERATORS - known == set()
    assert SINCE.keys() <= OPERATORS


def test_an_operator_inside_of_a_branch_is_found(tmp_path: Path) -> None:
    inner = helper.make_graph([NODE("Unique", ["input_ids"], ["x"])], "then", [], [VALUE("x", TensorProto.INT64, None)])
    path = save(tmp_path / "m.onnx", [NODE("If", ["flag"], ["logits"], then_branch=inner, else_branch=inner)])
    assert problems(path)[0] == (
        "operator Unique (x) is not supported",
        "write the model's forward without it, or drop tensorrt from params.yaml: optimize.engines",
    )


INPUTS: list[tuple[list[Any], str]] = [
    ([("input_ids", 7, ["b", "t"])], "inputs ['input_ids'], where the engine gives"),
    (
        [*((name, 7, ["b", "t"]) for name in NAMES), ("images", 1, ["b", 3, "w"])],
        "dynamic dimensions ['b', 'w'] that no",
    ),
    ([("input_ids", 1, ["b", "t"]), ("attention_mask", 7, ["b", "t"])], "input input_ids is float, not int32 or int64"),
    ([("input_ids", 7, ["b"]), ("attention_mask", 7, ["b", "t"])], "input input_ids has 1 dimensions, not [B, T]"),
    ([("input_ids", 7, [1, "t"]), ("attention_mask", 7, ["b", "t"])], "input input_ids is fixed to [1, 't']"),
]


@pytest.mark.parametrize(("inputs", "problem"), INPUTS)
def test_inputs_that_no_profile_covers(tmp_path: Path, inputs: list[Any], problem: str) -> None:
    nodes = [NODE("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)]
    path = save(tmp_path / "m.onnx", nodes, inputs=[VALUE(*entry) for entry in inputs])
    assert any(problem in found for found, _ in problems(path)), problems(path)


def test_int32_inputs_are_taken(tmp_path: Path) -> None:
    nodes = [NODE("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)]
    path = save(tmp_path / "m.onnx", nodes, inputs=[VALUE(name, TensorProto.INT32, ["b", "t"]) for name in NAMES])
    assert problems(path) == []


SCALE, ZERO = np.float32(0.5), np.int8(0)
ROW = np.ones(4, np.float32)
QDQ: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "zero point": ({"s": SCALE, "z": np.int8(3)}, ["x", "s", "z"], "has a zero point other than 0"),
    "type": ({"s": SCALE, "z": np.uint8(0)}, ["x", "s", "z"], "is in uint8, not int8"),
    "default": ({"s": SCALE}, ["x", "s"], "gives uint8, as it says no zero point"),
    "channels": ({"s": ROW, "z": np.zeros(4, np.int8)}, ["x", "s", "z"], "scales activations by channel"),
    "scale": ({"z": ZERO}, ["x", "x", "z"], "has a scale that is no constant"),
    "late": ({"s": SCALE}, ["x", "s", "y"], "has a zero point that is no constant"),
}


@pytest.mark.parametrize("case", QDQ)
def test_quantisation_that_tensorrt_does_not_know(tmp_path: Path, case: str) -> None:
    constants, inputs, problem = QDQ[case]
    nodes = [
        NODE("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        NODE("QuantizeLinear", inputs, ["logits"]),
    ]
    assert [problem in found for found, _ in problems(save(tmp_path / "m.onnx", nodes, constants=constants))] == [True]


@pytest.mark.parametrize(("dtype", "count"), [(np.int8, 0), (np.int32, 1), (np.uint8, 1)])
def test_weights_are_int8_and_may_be_scaled_by_channel(tmp_path: Path, dtype: Any, count: int) -> None:
    constants = {"w": np.ones((4, 4), dtype), "s": ROW}
    path = save(tmp_path / "m.onnx", [NODE("DequantizeLinear", ["w", "s"], ["logits"], axis=1)], constants=constants)
    found = problems(path)
    assert len(found) == count
    assert all(f"reads {np.dtype(dtype).name} weights, not int8" in problem for problem, _ in found)


def with_external(directory: Path, location: str) -> Path:
    path = save(directory / "m.onnx", [NODE("Identity", ["w"], ["logits"])], constants={"w": ROW})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret", "a/../../secret", "", "C:\\secret", "link/secret"])
def test_external_data_outside_of_the_directory_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(ROW.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(LnmtError, match=r"external data of w points outside of the model's directory"):
        check_graph(with_external(inside, location))


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    path = with_external(tmp_path, "weights.data")
    assert "its external data cannot be read" in problems(path)[0][0]
    (tmp_path / "weights.data").write_bytes(ROW.tobytes())
    assert problems(path) == []


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"junk")
    with pytest.raises(LnmtError, match="it is no ONNX file"):
        check_graph(tmp_path / "m.onnx")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [NODE("Unique", ["input_ids"], ["logits"])], opset=26)
    with pytest.raises(LnmtError, match=r"opset 26(?s:.*)operator Unique"):
        check_graph(path, NEWEST)
