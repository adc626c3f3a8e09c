from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.optimization.backends import BACKENDS
from lnmt.runtime import ENGINES as TABLE
from lnmt.runtime.engine import checked_output
from lnmt.runtime.predictor import Predictor
from lnmt.types import Batch, Precision, Task
from tests.runtime.conftest import ENGINES
from tests.tiny_bundle import tiny_bundle

Bundles = dict[tuple[str, Precision], Bundle]
TEXTS = ["good", "a very good film , not dull at all !", "the plot was bad " * 6, "", "café price 10"]


def logits(
    bundle: Bundle, texts: list[str], cache: Path | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    opened = Predictor.open(bundle, threads=1, cache=cache)
    try:
        output, _ = opened.outputs(texts)
        return output.logits, output.pooled
    finally:
        opened.close()


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_every_engine_answers_as_pytorch(bundles: Bundles, engine: str, precision: Precision) -> None:
    expected = logits(bundles["torch", "fp32"], TEXTS)
    found = logits(bundles[engine, precision], TEXTS)
    tolerance = 1e-4 if precision == "fp32" else 0.15
    for want, have in zip(expected, found, strict=True):
        assert have.shape == want.shape
        assert have.dtype == np.dtype(np.float32)
        np.testing.assert_allclose(have, want, atol=tolerance)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_padding_and_neighbours_change_nothing(bundles: Bundles, engine: str, precision: Precision) -> None:
    opened = Predictor.open(bundles[engine, precision], threads=1)
    rows = opened.encode(TEXTS)
    together = opened.infer(rows).logits
    alone = np.concatenate([opened.infer([row]).logits for row in rows])
    opened.close()
    np.testing.assert_allclose(together, alone, atol=1e-4 if precision == "fp32" else 0.15)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_an_answer_outlives_the_next_call(bundles: Bundles, engine: str, precision: Precision) -> None:
    opened = Predictor.open(bundles[engine, precision], threads=1)
    first, second = (opened.infer(opened.encode([text])) for text in ("good", "bad"))
    kept = first.logits.copy()
    opened.infer(opened.encode(["dull", "awful"]))
    opened.close()
    np.testing.assert_array_equal(first.logits, kept)
    assert not np.array_equal(first.logits, second.logits)


def test_threads_are_honoured(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime
    import torch

    from lnmt.runtime.onnxruntime import OnnxRuntimeEngine
    from lnmt.runtime.openvino import OpenVinoEngine
    from lnmt.runtime.torch import TorchEngine

    before = torch.get_num_threads()
    try:
        TorchEngine().load(bundles["torch", "fp32"], threads=1, cache=None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    onnx = OnnxRuntimeEngine()
    onnx.load(bundles["onnxruntime", "fp32"], threads=1, cache=None)
    options = onnx._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    openvino = OpenVinoEngine()
    openvino.load(bundles["openvino", "bf16"], threads=1, cache=None)
    model = openvino._request.get_compiled_model()
    assert model.get_property("INFERENCE_NUM_THREADS") == 1
    assert str(model.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'bfloat16'>"


@pytest.mark.parametrize(("cores", "pinned"), [(2, False), (1, True)], ids=["a part of the cores", "all cores"])
def test_a_process_that_has_a_part_of_the_cores_leaves_its_threads_free(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, cores: int, pinned: bool
) -> None:
    from lnmt.runtime.openvino import OpenVinoEngine

    monkeypatch.setattr("lnmt.runtime.openvino.available_cores", lambda: cores)
    engine = OpenVinoEngine()
    engine.load(bundles["openvino", "bf16"], threads=1, cache=None)
    assert engine._request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is pinned
    engine.close()


def without(bundle: Bundle, target: Path, name: str, **change: object) -> Bundle:
    """The bundle lacking one file."""
    draft = {field: getattr(bundle.manifest, field) for field in Draft.model_fields}
    with new_bundle(target, Draft(**{**draft, **change})) as directory:
        for other in bundle.manifest.files:
            if other != name:
                (directory / other).write_bytes(bundle.file(other).read_bytes())
    return Bundle.open(target)


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("torch", "model.safetensors"),
        ("onnxruntime", "model.onnx"),
        ("openvino", "model.xml"),
        ("openvino", "model.bin"),
    ],
)
def test_a_missing_file_is_named(bundles: Bundles, tmp_path: Path, engine: str, name: str) -> None:
    with pytest.raises(LnmtError, match=f"bundle has no file '{name}'"):
        Predictor.open(without(bundles[engine, "fp32"], tmp_path / "b", name))


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "model.onnx"), ("openvino", "model.xml")])
def test_a_file_that_is_no_model_is_told(bundles: Bundles, tmp_path: Path, engine: str, name: str) -> None:
    bundle = bundles[engine, "fp32"]
    draft = {field: getattr(bundle.manifest, field) for field in Draft.model_fields}
    with new_bundle(tmp_path / "b", Draft(**draft)) as directory:
        for other in bundle.manifest.files:
            (directory / other).write_bytes(b"junk" if other == name else bundle.file(other).read_bytes())
    with pytest.raises(LnmtError, match="cannot load the model"):
        Predictor.open(Bundle.open(tmp_path / "b"))


def test_an_unknown_engine_offers_the_nearest(bundles: Bundles, tmp_path: Path) -> None:
    bundle = without(bundles["torch", "fp32"], tmp_path / "b", "", engine="onxruntime")
    with pytest.raises(UnknownName, match="did you mean 'onnxruntime'"):
        Predictor.open(bundle)


def test_a_changed_file_is_never_loaded(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b")
    weights = bundle.file("model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DigestMismatch, match=r"model\.safetensors"):
        Bundle.open(bundle.path)


def test_every_engine_of_the_table_is_tested() -> None:
    elsewhere = {"torch_compile", "tensorrt", "tensorrt_rtx"}  # in modules of their own: slow, or with a GPU
    assert set(TABLE.names()) == {engine for engine, _ in ENGINES} | elsewhere
    assert set(BACKENDS.names()) == set(TABLE.names())


BATCH = Batch(np.ones((2, 4), dtype=np.int64), np.ones((2, 4), dtype=np.int64))
FINE = np.zeros((2, 3), dtype=np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["logits", "pooled"])
def test_answers_that_are_not_finite_are_refused(bad: float, place: str) -> None:
    arrays = {"logits": FINE.copy(), "pooled": FINE.copy()}
    arrays[place][1, 2] = bad
    with pytest.raises(LnmtError, match=rf"'x' gave {place} that are not finite(?s:.*)rows \[1\] of 2"):
        checked_output("x", BATCH, **arrays, task="text-classification")


@pytest.mark.parametrize("shape", [(1, 3), (2,), (2, 3, 1)])
def test_answers_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LnmtError, match="wrong shape"):
        checked_output("x", BATCH, np.zeros(shape, dtype=np.float32), FINE, "text-classification")


@pytest.mark.parametrize("task", ["token-classification", "text-generation"])
def test_tasks_by_token_want_logits_for_each_token(task: Task) -> None:
    assert checked_output("x", BATCH, np.zeros((2, 4, 5), np.float32), FINE, task).logits.shape == (2, 4, 5)
    for shape in ((2, 5), (2, 3, 5), (1, 4, 5)):
        with pytest.raises(LnmtError, match=r"wrong shape(?s:.*)\[2, 4, '…'\]"):
            checked_output("x", BATCH, np.zeros(shape, np.float32), FINE, task)


def test_what_stands_in_the_padding_is_not_looked_at() -> None:
    batch = Batch(np.ones((2, 4), np.int64), np.array([[1, 1, 1, 1], [1, 1, 0, 0]]))
    logits = np.zeros((2, 4, 5), np.float32)
    logits[1, 2] = np.nan
    checked_output("x", batch, logits, FINE, "token-classification")
    logits[1, 1, 4] = np.nan
    with pytest.raises(LnmtError, match=r"rows \[1\] of 2"):
        checked_output("x", batch, logits, FINE, "token-classification")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")]
)
def test_too_little_memory_is_told(bundles: Bundles, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from lnmt.runtime import torch_weights

    def load_model(_: Bundle) -> None:
        raise error

    monkeypatch.setattr(torch_weights, "load_model", load_model)
    with pytest.raises(LnmtError, match=r"not enough memory for the model(?s:.*)MB of weights"):
        Predictor.open(bundles["torch", "fp32"])
