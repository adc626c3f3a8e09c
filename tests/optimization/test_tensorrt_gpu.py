"""TensorRT itself, where there is a GPU: built, loaded, run and held against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.files import sha256_file
from lnmt.optimization.backends import Source
from lnmt.optimization.backends.tensorrt import TIMING, TensorRtBackend, TensorRtRtxBackend, add_plan, write_graph
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx
from lnmt.runtime.engine import Engine
from lnmt.runtime.tensorrt import TensorRtEngine, this_machine, why_not_tensorrt
from lnmt.runtime.tensorrt_rtx import TensorRtRtxEngine, why_not_tensorrt_rtx
from lnmt.runtime.torch import TorchEngine
from lnmt.runtime.trt_plan import PLAN, Key, profiles_of, write_plan
from lnmt.types import Precision
from tests.optimization.graphs import batch, quantise
from tests.tiny_bundle import tiny_bundle

TENSORRT, RTX = why_not_tensorrt(), why_not_tensorrt_rtx()
needs_tensorrt = pytest.mark.skipif(TENSORRT is not None, reason=f"TensorRT: {TENSORRT}")
needs_rtx = pytest.mark.skipif(RTX is not None, reason=f"TensorRT-RTX: {RTX}")
pytestmark = pytest.mark.requires_gpu

TOLERANCE: dict[Precision, float] = {"fp32": 0.001, "fp16": 0.02, "bf16": 0.08}  # logits reach 2
SHAPES = [(1, 1), (1, 8), (1, 64), (2, 8), (3, 17), (16, 32), (64, 64), (65, 8)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("source")
    return Source(tiny_bundle(root / "bundle"), root)


def bundle_of(source: Source, target: Path, engine: str, precision: Precision, **settings: int) -> Bundle:
    backend = TensorRtBackend() if engine == "tensorrt" else TensorRtRtxBackend()
    draft = {name: getattr(source.bundle.manifest, name) for name in Draft.model_fields}
    change = {"engine": engine, "precision": precision, "settings": settings}
    with new_bundle(target, Draft(**{**draft, **change})) as directory:
        (directory / "tokenizer.json").write_bytes(source.bundle.file("tokenizer.json").read_bytes())
        backend.build(Candidate(engine, precision, settings=settings), source, directory)
    return Bundle.open(target)


def answers_as_torch(engine: Engine, source: Source, tolerance: float) -> None:
    torch_engine = TorchEngine()
    torch_engine.load(source.bundle, threads=1, cache=None)
    for rows, tokens in SHAPES:
        sent = batch(rows, tokens, seed=rows)
        want, have = torch_engine.infer(sent), engine.infer(sent)
        np.testing.assert_allclose(have.logits, want.logits, atol=tolerance)
        np.testing.assert_allclose(have.pooled, want.pooled, atol=tolerance)


@needs_tensorrt
@pytest.mark.parametrize("precision", TOLERANCE)
def test_every_shape_of_the_profiles_answers_as_pytorch(source: Source, tmp_path: Path, precision: Precision) -> None:
    bundle = bundle_of(source, tmp_path / "bundle", "tensorrt", precision)
    engine = TensorRtEngine()
    engine.load(bundle, threads=None, cache=None)
    engine.warm_up()
    answers_as_torch(engine, source, TOLERANCE[precision])
    with pytest.raises(LnmtError, match="at most 64 tokens"):
        engine.infer(batch(1, 65))
    engine.close()


@needs_tensorrt
@pytest.mark.parametrize("group_rows", [1, 8])
def test_groups_answer_as_pytorch(source: Source, tmp_path: Path, group_rows: int) -> None:
    bundle = bundle_of(source, tmp_path / "bundle", "tensorrt", "fp32", group_rows=group_rows)
    engine = TensorRtEngine()
    engine.load(bundle, threads=None, cache=None)
    engine.warm_up()
    answers_as_torch(engine, source, TOLERANCE["fp32"])


@needs_tensorrt
def test_an_answer_outlives_the_next_call(source: Source, tmp_path: Path) -> None:
    engine = TensorRtEngine()
    engine.load(bundle_of(source, tmp_path / "bundle", "tensorrt", "fp32"), threads=None, cache=None)
    first = engine.infer(batch(2, 8, seed=1))
    kept = first.logits.copy()
    engine.infer(batch(2, 8, seed=2))
    np.testing.assert_array_equal(first.logits, kept)


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_int8_answers_nearly_as_pytorch(source: Source, tmp_path: Path, precision: Precision) -> None:
    graph = quantise(export_onnx(source), tmp_path / "int8.onnx")
    draft = {name: getattr(source.bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(tmp_path / "bundle", Draft(**{**draft, "engine": "tensorrt", "precision": precision})) as directory:
        written, profiles = write_graph(graph, precision, directory), profiles_of(source.bundle.manifest, None)
        add_plan(written, profiles, precision, directory)
    engine = TensorRtEngine()
    engine.load(Bundle.open(tmp_path / "bundle"), threads=None, cache=None)
    answers_as_torch(engine, source, 0.4)


@needs_tensorrt
def test_the_timing_cache_is_written_and_read_again(source: Source, tmp_path: Path) -> None:
    shared = Source(source.bundle, source.work, cache=tmp_path)
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        TensorRtBackend().build(Candidate("tensorrt", "fp32"), shared, tmp_path / name)
        assert (tmp_path / TIMING).stat().st_size > 0
        if name == "two":
            (tmp_path / TIMING).write_bytes(b"junk")  # left for a new one


@needs_tensorrt
def test_a_build_tells_its_progress_and_can_be_ended(source: Source, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    def report(phase: str, done: int, total: int | None) -> bool:
        told.append((phase, done, total))
        return len(told) < 5

    with pytest.raises(LnmtError, match="was cancelled"):
        graph = write_graph(export_onnx(source), "fp32", tmp_path)
        add_plan(graph, profiles_of(source.bundle.manifest, None), "fp32", tmp_path, report=report)
    assert len(told) >= 5
    assert not (tmp_path / PLAN).exists()


@needs_tensorrt
def test_a_plan_that_is_no_plan_is_refused(source: Source, tmp_path: Path) -> None:
    draft = {name: getattr(source.bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(tmp_path / "bundle", Draft(**{**draft, "engine": "tensorrt"})) as directory:
        graph = write_graph(export_onnx(source), "fp32", directory)
        key = Key(sha256_file(graph), this_machine(), profiles_of(source.bundle.manifest, None))
        write_plan(directory, key, b"junk")
    bundle = Bundle.open(tmp_path / "bundle")
    with pytest.raises(LnmtError, match="TensorRT cannot read it"):
        TensorRtEngine().load(bundle, threads=None, cache=None)


@needs_rtx
@pytest.mark.parametrize("precision", TOLERANCE)
def test_rtx_answers_as_pytorch(source: Source, tmp_path: Path, precision: Precision) -> None:
    bundle = bundle_of(source, tmp_path / "bundle", "tensorrt_rtx", precision)
    for _ in range(2):  # the second time from the cache
        engine = TensorRtRtxEngine()
        engine.load(bundle, threads=None, cache=tmp_path / "cache")
        engine.warm_up()
        answers_as_torch(engine, source, TOLERANCE[precision])
        engine.close()
