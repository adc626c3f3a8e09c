"""What static quantisation decides, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lnmt.errors import LnmtError, UnknownName
from lnmt.files import write_bytes
from lnmt.optimization.compressions.dynamic_int8 import DynamicInt8
from lnmt.optimization.compressions.int8_products import find_groups, load_graph
from lnmt.optimization.compressions.int8_sensitivity import Distance, choose_kept, compare_logits, few_rows
from lnmt.optimization.compressions.static_int8 import StaticInt8
from lnmt.optimization.compressions.weight_int8 import WeightInt8
from lnmt.types import Batch
from tests.optimization.int8_kit import (
    QUIET,
    batches,
    compressed,
    exported,
    handmade,
    id_batches,
    load,
    moved,
    run_onnx,
)
from tests.tiny_bundle import tiny_bundle


def test_the_layer_with_huge_outliers_stays_in_floats(tmp_path: Path) -> None:
    graph = handmade(tmp_path / "model.onnx", layers=3, outlier=1)
    batch = id_batches()[0]
    exact = run_onnx(graph, batch)
    everything, wise = StaticInt8(keep_float="none"), StaticInt8(keep_float="auto")
    broken = compressed(everything, graph, "onnxruntime", tmp_path / "none", id_batches()) / "model.onnx"
    whole = compressed(wise, graph, "onnxruntime", tmp_path / "auto", id_batches()) / "model.onnx"
    found = wise.decided()
    assert found["kept_float"] == ["layer.1"]
    assert found["alone"]["layer.1"] > 10 * max(found["alone"]["layer.0"], found["alone"]["layer.2"])
    assert found["distance"]["moved"] <= 0.05 < everything.decided()["distance"]["moved"]
    assert moved(exact, run_onnx(whole, batch), batch) < 0.05 < moved(exact, run_onnx(broken, batch), batch)


def test_patterns_say_what_stays_in_floats(tmp_path: Path) -> None:
    graph = handmade(tmp_path / "model.onnx", layers=3)
    some = StaticInt8(keep_float=["layer.[02]"])
    path = compressed(some, graph, "onnxruntime", tmp_path / "some", id_batches()) / "model.onnx"
    assert some.decided()["kept_float"] == ["layer.0", "layer.2"]
    read = [node.name for node in load(path).graph.node if node.op_type == "DequantizeLinear"]
    assert read == ["layer.1.activation.rounded", "matmul.1.weight.rounded"]
    with pytest.raises(LnmtError, match=r"a pattern matches no products of the model\n.*\n.*decoder") as told:
        compressed(StaticInt8(keep_float=["decoder.*"]), graph, "onnxruntime", tmp_path / "no", id_batches())
    assert told.value.allowed == "layer.0, layer.1, layer.2"
    with pytest.raises(LnmtError, match="no product is left to quantise"):
        compressed(StaticInt8(keep_float=["*"]), graph, "onnxruntime", tmp_path / "all", id_batches())


def test_what_was_measured_is_what_the_shipped_graph_does(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    graph, seen = exported(bundle, tmp_path / "work"), batches(bundle)
    static = StaticInt8(keep_float="none")
    path = compressed(static, graph, "onnxruntime", tmp_path / "made", seen) / "model.onnx"
    few = few_rows(seen)
    exact, other = (np.concatenate([run_onnx(one, batch) for batch in few]) for one in (graph, path))
    assert static.decided()["distance"]["moved"] == pytest.approx(compare_logits(exact, other).moved, rel=0.25)


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy"])
def test_every_calibration_keeps_answers_near(tmp_path: Path, calibration: str) -> None:
    graph = handmade(tmp_path / "model.onnx")
    static = StaticInt8(calibration, keep_float="none")  # type: ignore[arg-type]
    compressed(static, graph, "openvino", tmp_path / "made", id_batches())
    assert 0 < static.decided()["distance"]["moved"] < 0.2


def test_a_repaired_choice_costs_only_as_many_groups_as_it_needs() -> None:
    weight = {"a": 0.03, "b": 0.3, "c": 0.1, "d": 0.1}
    asked: list[set[str]] = []

    def distance(names: object) -> Distance:
        asked.append(set(names))  # type: ignore[call-overload]
        return Distance(sum(weight[name] for name in asked[-1]), 0.0, 0.0)

    def choose(max_distance: float, max_kept: int) -> Sequence[str]:
        asked.clear()
        return choose_kept(list(weight), distance, max_distance=max_distance, max_kept=max_kept, progress=QUIET).kept

    assert choose(0.6, 4) == ()
    assert asked == [set(weight)]  # near enough at once: nothing else is measured
    assert choose(0.25, 4) == ("b",)
    assert choose(0.15, 4) == ("b", "c")
    assert choose(0.01, 3) == ("b", "c", "d")
    assert choose(0.01, 0) == ()


def test_distances_are_of_numbers_and_of_decisions() -> None:
    exact = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    other = np.array([[1.0, 0.0], [2.0, 1.0]], np.float32)
    found = compare_logits(exact, other)
    assert found.moved == pytest.approx(2**0.5)
    assert found.flips == 0.5
    assert found.divergence > 0
    assert compare_logits(exact, exact) == Distance(0.0, 0.0, 0.0)
    assert compare_logits(exact[:, :1], other[:, :1]) == Distance(pytest.approx(2.0), 0.0, 0.0)  # type: ignore[arg-type]
    assert compare_logits(exact, exact * np.float32(np.nan)).moved == float("inf")


def test_rows_to_measure_on_are_short_and_long() -> None:
    many = [Batch(np.full((16, length), length), np.ones((16, length), np.int64)) for length in range(1, 33)]
    few = few_rows(many)
    assert [len(one.input_ids) for one in few] == [8] * 8
    assert few[0].input_ids.shape[1] == 1
    assert few[-1].input_ids.shape[1] == 32


def test_bad_calibrations_are_told(tmp_path: Path) -> None:
    graph = handmade(tmp_path / "model.onnx")
    empty = Batch(np.zeros((2, 3), np.int64), np.zeros((2, 3), np.int64))
    for seen in ([], [empty]):
        with pytest.raises(LnmtError, match="there is nothing to calibrate on"):
            StaticInt8().compress(graph, "onnxruntime", tmp_path, lambda seen=seen: seen, QUIET)  # type: ignore[misc]
    for places, ids in ((2, 90), (0, 50)):
        foreign = Batch(np.full((1, 4), ids) - np.arange(4) * places, np.ones((1, 4), np.int64))
        negative = Batch(-foreign.input_ids, foreign.attention_mask)
        for batch in (foreign, negative):
            with pytest.raises(LnmtError, match="cannot run a calibration batch") as told:
                StaticInt8().compress(graph, "onnxruntime", tmp_path, lambda batch=batch: [batch], QUIET)  # type: ignore[misc]
            lowest, highest = min(int(batch.input_ids.min()), 0), max(int(batch.input_ids.max()), 0)
            assert told.value.value == f"shape [1, 4], token ids {lowest}…{highest}"


def test_activations_that_are_not_finite_are_told(tmp_path: Path) -> None:
    table = np.ones((50, 32), np.float32)
    table[7] = np.inf
    graph = handmade(tmp_path / "model.onnx", table=table)
    with pytest.raises(LnmtError, match="an activation is not finite on the calibration batches") as told:
        StaticInt8().compress(graph, "onnxruntime", tmp_path, id_batches, QUIET)
    assert told.value.where == "layer.0"


def test_a_graph_without_products_or_no_graph_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "T"])
    model = helper.make_model(helper.make_graph([node], "none", [given], [made]))
    write_bytes(tmp_path / "model.onnx", model.SerializeToString())
    write_bytes(tmp_path / "broken.onnx", b"\xff\xff\xff\xff")
    for compression in (DynamicInt8(), StaticInt8(), WeightInt8()):
        with pytest.raises(LnmtError, match="the graph has no products to quantise"):
            compression.compress(tmp_path / "model.onnx", "onnxruntime", tmp_path, id_batches, QUIET)
        with pytest.raises(LnmtError, match="the graph cannot be read"):
            compression.compress(tmp_path / "broken.onnx", "onnxruntime", tmp_path, id_batches, QUIET)


def test_unknown_options_are_told() -> None:
    with pytest.raises(UnknownName, match="did you mean 'percentile'"):
        StaticInt8("percentil")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="did you mean 'auto'"):
        StaticInt8(keep_float="autos")
    with pytest.raises(ValueError, match="max_distance"):
        StaticInt8(max_distance=0)


def test_groups_are_named_by_their_modules(tmp_path: Path) -> None:
    graph = exported(tiny_bundle(tmp_path / "bundle"), tmp_path / "work")
    groups = find_groups(load_graph(graph))
    assert len(groups) == 9
    assert [len(group.products) for group in groups] == [3, 1, 1, 1, 3, 1, 1, 1, 1]
    assert len({group.name for group in groups}) == 9
    assert groups[-1].name == "head"


def test_equal_biases_under_one_name_give_no_wrong_names(tmp_path: Path) -> None:
    path = handmade(tmp_path / "model.onnx", layers=2)
    model = load(path)
    for node in model.graph.node:
        node.input[:] = ["layer.0.bias" if name == "layer.1.bias" else name for name in node.input]
    onnx.save(model, path)
    named = load_graph(path)
    for item in named.graph.initializer:
        item.name = item.name.replace(".weight", ".matrix")
    for node in named.graph.node:
        node.input[:] = [name.replace(".weight", ".matrix") for name in node.input]
    assert [group.name for group in find_groups(named)] == ["matmul.0", "matmul.1"]
