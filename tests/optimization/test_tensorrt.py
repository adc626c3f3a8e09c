"""What the TensorRT back end makes of a graph, run on the CPU: the same answers, in the types that were asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lnmt.errors import LnmtError
from lnmt.optimization.backends import Source
from lnmt.optimization.backends.tensorrt import TensorRtBackend, TensorRtRtxBackend, build_bar, write_graph
from lnmt.optimization.backends.tensorrt_graph import infer_types, spell_out_attention
from lnmt.optimization.backends.tensorrt_precision import lower_precision
from lnmt.optimization.backends.tensorrt_rules import problems
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx
from lnmt.progress import Progress
from lnmt.runtime.tensorrt import why_not_tensorrt
from lnmt.types import Precision, Task
from tests.optimization.graphs import VALUE, batch, quantise, run_graph, save
from tests.task_bundle import task_bundle
from tests.tiny_bundle import tiny_bundle

NODE = helper.make_node
KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("source")
    return Source(tiny_bundle(root / "bundle"), root)


@pytest.fixture(scope="module", params=get_args(Task))
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a tiny model of each task: four encoders, one causal."""
    root = tmp_path_factory.mktemp("export")
    return export_onnx(Source(task_bundle(root / "bundle", request.param), root))


def test_the_export_is_taken(export: Path) -> None:
    assert problems(export) == []


def test_attention_spelt_out_answers_the_same(export: Path, tmp_path: Path) -> None:
    path, model = export, onnx.load(export)
    assert any(node.op_type == "Attention" for node in model.graph.node)
    written = write_graph(path, "fp32", tmp_path)
    assert all(node.op_type != "Attention" for node in onnx.load(written).graph.node)
    onnx.checker.check_model(onnx.load(written), full_check=True)
    for sent in (batch(), batch(1, 8, seed=1), batch(2, 1, seed=2)):
        for want, have in zip(run_graph(path, sent), run_graph(written, sent), strict=True):
            np.testing.assert_allclose(have, want, atol=2e-5)


def attention(path: Path, mask: str = "", *, kind: int = TensorProto.FLOAT, heads: int = 2, **options: Any) -> Path:
    """One Attention over [1, 2, 3, 4] queries that are constants."""
    rng = np.random.default_rng(0)
    constants = {
        "q": rng.normal(size=(1, 2, 3, 4)).astype(np.float32),
        "k": rng.normal(size=(1, heads, 3, 4)).astype(np.float32),
        "v": rng.normal(size=(1, heads, 3, 4)).astype(np.float32),
        "mask": np.array([[[[1, 0, 1]] * 3]], dtype=helper.tensor_dtype_to_np_dtype(kind)),
    }
    nodes = [NODE("Attention", ["q", "k", "v", mask], ["logits"], **options), NODE("Identity", ["q"], ["pooled"])]
    return save(path, nodes, constants=constants)


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        ("", {}),
        ("", {"scale": 0.25}),
        ("", {"is_causal": 1}),
        ("mask", {}),
        ("mask", {"kind": TensorProto.BOOL}),
        ("mask", {"is_causal": 1}),
    ],
)
def test_every_form_of_attention(tmp_path: Path, mask: str, options: dict[str, Any]) -> None:
    path = attention(tmp_path / "m.onnx", mask, **options)
    spelt = tmp_path / "spelt.onnx"
    spelt.write_bytes(spell_out_attention(onnx.load(path)).SerializeToString())
    want, have = (run_graph(file, batch())[0] for file in (path, spelt))
    np.testing.assert_allclose(have, want, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "problem"), [({"softcap": 2.0}, "softcap"), ({"heads": 1}, "2 heads of queries and 1")]
)
def test_forms_that_are_not_spelt_out(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(LnmtError, match=problem):
        spell_out_attention(onnx.load(attention(tmp_path / "m.onnx", **options)))


def float_types(model: Any) -> dict[str, set[int]]:
    """Operator → types of the floats that it reads."""
    types, found = infer_types(model), dict[str, set[int]]()
    floats = {TensorProto.FLOAT, *KINDS.values()}
    for node in model.graph.node:
        kinds = {types[name].elem_type for name in node.input if name in types} & floats
        found[node.op_type] = found.get(node.op_type, set()) | kinds
    return found


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_products_are_low_and_norms_are_not(source: Source, tmp_path: Path, precision: Precision) -> None:
    model = onnx.load(write_graph(export_onnx(source), precision, tmp_path))
    onnx.checker.check_model(model, full_check=True)
    types = float_types(model)
    assert {types[name] == {KINDS[precision]} for name in ("MatMul", "Gemm", "Gelu")} == {True}
    assert {types[name] == {TensorProto.FLOAT} for name in ("LayerNormalization", "Softmax", "ReduceSum")} == {True}
    outputs = {entry.name: entry.type.tensor_type.elem_type for entry in model.graph.output}
    assert outputs == {"logits": TensorProto.FLOAT, "pooled": TensorProto.FLOAT}
    weights = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert weights == {KINDS[precision]}
    assert (tmp_path / "model.onnx").stat().st_size < 0.6 * export_onnx(source).stat().st_size


def test_fp16_answers_nearly_the_same(export: Path, tmp_path: Path) -> None:
    written = write_graph(export, "fp16", tmp_path)
    for sent in (batch(), batch(1, 8, seed=1)):
        for want, have in zip(run_graph(export, sent), run_graph(written, sent), strict=True):
            assert have.dtype == np.float32
            assert 0 < np.abs(have - want).max() < 0.01 * np.abs(want).max()


def test_bf16_answers_nearly_the_same(source: Source, tmp_path: Path) -> None:
    # ONNX Runtime has no bf16 kernels on the CPU; onnx's own evaluator has
    path, sent = export_onnx(source), batch()
    model = onnx.load(write_graph(path, "bf16", tmp_path))
    feed = {"input_ids": sent.input_ids, "attention_mask": sent.attention_mask}
    for want, have in zip(
        run_graph(path, sent), ReferenceEvaluator(model).run(["logits", "pooled"], feed), strict=True
    ):
        assert have.dtype == np.float32
        assert 0 < np.abs(have - want).max() < 0.03 * np.abs(want).max()


def test_what_overflows_fp16_is_clamped(tmp_path: Path) -> None:
    """A mask of −3.4e38 in fp16 is −65504, not −inf: a row that is masked whole would become NaN."""
    constants = {"big": np.full((2, 2), -3.4e38, np.float32), "x": np.eye(2, dtype=np.float32)}
    path = save(tmp_path / "m.onnx", [NODE("MatMul", ["x", "big"], ["logits"])], constants=constants)
    model = lower_precision(onnx.load(path), "fp16")
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert {float(array.min()) for array in arrays} == {-65504.0, 0.0}


def test_fp32_changes_nothing(source: Source) -> None:
    model = onnx.load(export_onnx(source))
    assert lower_precision(model, "fp32") == model


def test_constants_of_nodes_are_lowered_and_shared_ones_stay(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    nodes = [
        NODE("Constant", [], ["w"], value=weight),
        NODE("MatMul", ["x", "w"], ["y"]),
        NODE("Softmax", ["w"], ["pooled"]),
        NODE("Add", ["y", "y"], ["logits"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, constants={"x": np.ones((2, 2), np.float32)})
    model = lower_precision(onnx.load(path), "fp16")
    types = float_types(model)
    assert (types["MatMul"], types["Softmax"], types["Add"]) == (
        {TensorProto.FLOAT16},
        {TensorProto.FLOAT},
        {TensorProto.FLOAT},  # a sum of two results: the residual stream
    )
    (tmp_path / "low.onnx").write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(run_graph(tmp_path / "low.onnx", batch())[0], np.full((2, 2), 2.0))


def test_a_graph_with_branches_keeps_fp32(tmp_path: Path) -> None:
    inner = helper.make_graph([NODE("Identity", ["x"], ["y"])], "then", [], [VALUE("y", TensorProto.FLOAT, None)])
    nodes = [NODE("If", ["flag"], ["logits"], then_branch=inner, else_branch=inner)]
    path = save(tmp_path / "m.onnx", nodes, constants={"flag": np.array(True), "x": np.float32(1)})
    with pytest.raises(LnmtError, match=r"branches or loops(?s:.*)If(?s:.*)take fp32"):
        lower_precision(onnx.load(path), "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_int8_graphs_keep_their_qdq(source: Source, tmp_path: Path, precision: Precision) -> None:
    path = quantise(export_onnx(source), tmp_path / "int8.onnx")
    (tmp_path / "out").mkdir()
    written = write_graph(path, precision, tmp_path / "out")
    assert problems(written) == []
    model, before = onnx.load(written), onnx.load(path)
    counts = [[sum(node.op_type == name for node in found.graph.node) for name in QDQ] for found in (model, before)]
    assert counts[0] == counts[1]
    makers = {name: node for node in model.graph.node for name in node.output}
    quantised = [
        [makers[name].op_type for name in node.input if name in makers]
        for node in model.graph.node
        if node.op_type == "MatMul"
    ]
    # nothing stands between a product and its Q/DQ: TensorRT fuses only then
    assert sum(kinds == ["DequantizeLinear"] * 2 for kinds in quantised) == 12
    want, have = run_graph(path, batch()), run_graph(written, batch())
    # where fp16 moves a value over the edge between two of int8's steps, the whole step shows
    np.testing.assert_allclose(have[0], want[0], atol=0.06 * np.abs(want[0]).max())


QDQ = ("QuantizeLinear", "DequantizeLinear")


def test_the_rtx_back_end_writes_the_graph_alone(source: Source, tmp_path: Path) -> None:
    TensorRtRtxBackend().build(Candidate("tensorrt_rtx", "fp16"), source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert problems(tmp_path / "model.onnx") == []


def test_without_a_gpu_the_graph_is_checked_and_the_reason_told(source: Source, tmp_path: Path) -> None:
    if why_not_tensorrt() is None:
        pytest.skip("this machine has TensorRT")
    with pytest.raises(LnmtError, match=r"TensorRT cannot run here: (?s:.*)on a machine that has it, or drop tensorrt"):
        TensorRtBackend().build(Candidate("tensorrt", "fp16"), source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_build_shows_itself(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "optimize.jsonl", show=False)
    with build_bar(progress) as report:
        for step in [("tactics", 0, 2), ("tactics", 1, 2), ("tactics", 2, 2), ("tactics", 2, None)]:
            assert report(*step)
    last = json.loads((tmp_path / "optimize.jsonl").read_text().splitlines()[-1])
    assert (last["what"], last["done"], last["phase"]) == ("build the TensorRT engine", 2, "tactics")
