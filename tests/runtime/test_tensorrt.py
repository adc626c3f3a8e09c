from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.files import sha256_file
from lnmt.runtime import tensorrt as module
from lnmt.runtime.nvidia import Gpu
from lnmt.runtime.tensorrt import TensorRtEngine, prepare_plan, why_not_tensorrt
from lnmt.runtime.tensorrt_rtx import TensorRtRtxEngine, find_devices, provider_options, why_not_tensorrt_rtx
from lnmt.runtime.trt_plan import GRAPH, PLAN, Key, Machine, PlanCache, make_profiles, write_plan
from lnmt.types import Batch, Precision
from tests.tiny_bundle import tiny_bundle

L4 = Gpu("NVIDIA L4", (8, 9), (13, 0))


@pytest.mark.parametrize(
    ("gpu", "precision", "reason"),
    [
        ("no NVIDIA GPU", "fp32", "no NVIDIA GPU"),
        (Gpu("V100", (7, 0), (13, 0)), "fp32", "V100 is too old: compute capability 7.0, TensorRT wants 7.5"),
        (Gpu("T4", (7, 5), (13, 0)), "bf16", "T4 has no bf16 arithmetic: compute capability 7.5, it came with 8.0"),
        (Gpu("L4", (8, 9), (12, 8)), "fp16", "the NVIDIA driver runs CUDA 12.8, TensorRT wants 13.0"),
    ],
)
def test_why_tensorrt_cannot_run(gpu: Gpu | str, precision: Precision, reason: str) -> None:
    found = why_not_tensorrt(precision, gpu)
    assert found is not None
    assert found.startswith(reason)


def test_missing_packages_are_told_with_what_to_install() -> None:
    if find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    missing = "libraries (tensorrt_cu13_libs)" if find_spec("tensorrt_bindings") else "Python bindings"
    assert why_not_tensorrt("fp32", L4) == (
        f"TensorRT's {missing} are not installed: pip install tensorrt-cu13, from NVIDIA's package index"
    )


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        ("no NVIDIA GPU", "no NVIDIA GPU"),
        (Gpu("T4", (7, 5), (13, 0)), "T4 is too old: compute capability 7.5, TensorRT-RTX wants 8.0 (Ampere)"),
        (Gpu("L4", (8, 9), (12, 8)), "the NVIDIA driver runs CUDA 12.8, TensorRT-RTX wants 13.0"),
    ],
)
def test_why_tensorrt_rtx_cannot_run(gpu: Gpu | str, reason: str) -> None:
    found = why_not_tensorrt_rtx("fp32", gpu)
    assert found is not None
    assert found.startswith(reason)


def test_the_package_of_tensorrt_rtx_is_named() -> None:
    installed = find_spec("onnxruntime_ep_nv_tensorrt_rtx") is not None
    name = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
    assert why_not_tensorrt_rtx("fp32", L4) == (None if installed else f"{name} is not installed: pip install {name}")


def test_asking_imports_no_back_end() -> None:
    code = (
        "import sys; from lnmt.runtime.tensorrt import why_not_tensorrt as a;"
        "from lnmt.runtime.tensorrt_rtx import why_not_tensorrt_rtx as b; a(), b();"
        "print([name for name in ('torch', 'onnxruntime', 'tensorrt', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("engine", "name", "what"),
    [
        (TensorRtEngine, "tensorrt", "TensorRT cannot run here: "),
        (TensorRtRtxEngine, "tensorrt_rtx", "TensorRT-RTX cannot run here: "),
    ],
)
def test_an_engine_without_a_gpu_says_why(
    tmp_path: Path, engine: type[TensorRtEngine | TensorRtRtxEngine], name: str, what: str
) -> None:
    if why_not_tensorrt() is None or why_not_tensorrt_rtx() is None:
        pytest.skip("this machine has TensorRT")
    reference = tiny_bundle(tmp_path / "reference")
    draft = {field: getattr(reference.manifest, field) for field in Draft.model_fields}
    with new_bundle(tmp_path / "bundle", Draft(**{**draft, "engine": name})) as directory:
        (directory / "model.onnx").write_bytes(b"a graph that nothing reads")
    with pytest.raises(LnmtError, match=what):
        engine().load(Bundle.open(tmp_path / "bundle"), threads=1, cache=None)
    with pytest.raises(LnmtError, match=r"bundle has no file 'model\.onnx'|cannot run here"):
        engine().load(reference, threads=1, cache=None)


def test_compiled_kernels_are_kept_apart_for_each_bundle(tmp_path: Path) -> None:
    bundles = [tiny_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    found = [provider_options(bundle, tmp_path / "cache")["nv_runtime_cache_path"] for bundle in bundles]
    assert len(set(found)) == 2
    assert all(Path(path).is_dir() for path in found)
    assert provider_options(bundles[0], None) == {}


def test_the_plugin_library_without_a_driver_says_so() -> None:
    if find_spec("onnxruntime_ep_nv_tensorrt_rtx") is None:
        pytest.skip("onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed")
    if why_not_tensorrt_rtx() is None:
        pytest.skip("this machine has TensorRT-RTX")
    with pytest.raises(LnmtError, match=r"TensorRT-RTX's library does not load(?s:.*)libcuda\.so\.1"):
        find_devices()


MACHINE = Machine("11.4.0.106", "NVIDIA L4", (8, 9))


class OneByOne:
    """Stands for what runs on the GPU: each row's logits are its sum of ids, and the sizes of calls are kept."""

    def __init__(self, max_tokens: int) -> None:
        self.profiles = make_profiles(max_tokens, 8)
        self.sizes: list[tuple[int, ...]] = []

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        self.sizes.append(input_ids.shape)
        sums = (input_ids * attention_mask).sum(axis=1, keepdims=True).astype(np.float32)
        return [sums.repeat(3, axis=1), sums.repeat(2, axis=1)]


@dataclass
class Bench:
    """An engine's surroundings without a GPU: which plans were read and built."""

    bundle: Bundle
    cache: Path
    read: list[bytes]
    built: list[Path]

    def load(self, *, build: bool = False, cache: bool = True) -> TensorRtEngine:
        engine = TensorRtEngine(build=build)
        engine.load(self.bundle, threads=None, cache=self.cache if cache else None)
        return engine


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bundle that was made on another GPU. Plans that start with `good` are taken by what stands for TensorRT."""
    reference = tiny_bundle(tmp_path / "reference")
    draft = {field: getattr(reference.manifest, field) for field in Draft.model_fields}
    with new_bundle(tmp_path / "bundle", Draft(**{**draft, "engine": "tensorrt"})) as directory:
        (directory / GRAPH).write_bytes(b"a graph")
        key = Key(sha256_file(directory / GRAPH), replace(MACHINE, gpu="NVIDIA A100"), make_profiles(64, 8))
        write_plan(directory, key, b"good, of an A100")
    found = Bench(Bundle.open(tmp_path / "bundle"), tmp_path / "cache", [], [])

    def deserialise(plan: bytes, profiles: object) -> OneByOne | None:
        found.read.append(plan)
        return OneByOne(64) if plan.startswith(b"good") else None

    def build_plan(graph: Path, profiles: object, **options: object) -> bytes:
        found.built.append(graph)
        return b"good, built here"

    monkeypatch.setattr(module, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(module, "_deserialise", deserialise)
    monkeypatch.setattr(module, "build_plan", build_plan)
    return found


def test_a_bundle_of_another_gpu_is_refused_and_nothing_is_built(bench: Bench) -> None:
    with pytest.raises(LnmtError, match=r"no TensorRT engine for this machine(?s:.*)lnmt optimize") as caught:
        bench.load()
    assert "it was built for another machine: 11.4.0.106, NVIDIA A100, [8, 9], here 11.4.0.106, NVIDIA L4" in str(
        caught.value
    )
    with pytest.raises(LnmtError, match="there is no cache"):
        bench.load(cache=False)
    assert (bench.read, bench.built) == ([], [])


def test_a_plan_that_was_prepared_is_used(bench: Bench) -> None:
    assert prepare_plan(bench.bundle, bench.cache) == b"good, built here"
    assert prepare_plan(bench.bundle, bench.cache) == b"good, built here"
    assert bench.built == [bench.bundle.path / GRAPH]
    bench.load()
    assert bench.read == [b"good, built here"]


def test_the_bundles_own_plan_comes_first(bench: Bench) -> None:
    own = Key(sha256_file(bench.bundle.path / GRAPH), MACHINE, make_profiles(64, 8))
    write_plan(bench.bundle.path, own, b"good, of this machine")
    bench.load(cache=False)
    assert (bench.read, bench.built) == ([b"good, of this machine"], [])


def entry(bench: Bench) -> Path:
    return bench.cache / "tensorrt" / Key(bench.bundle.digest, MACHINE, make_profiles(64, 8)).name


@pytest.mark.parametrize("content", [b"good, but cut of", b""])
def test_a_corrupt_plan_is_built_again_only_where_asked(bench: Bench, content: bytes) -> None:
    prepare_plan(bench.bundle, bench.cache)
    (entry(bench) / PLAN).write_bytes(content)
    with pytest.raises(LnmtError, match="its bytes are not those that were written"):
        bench.load()
    assert (bench.read, len(bench.built)) == ([], 1)
    bench.load(build=True)
    assert len(bench.built) == 2
    bench.load()
    assert (bench.read, len(bench.built)) == ([b"good, built here"] * 2, 2)


def test_a_plan_that_tensorrt_does_not_take_is_built_again_only_where_asked(bench: Bench) -> None:
    write_plan(entry(bench), Key(bench.bundle.digest, MACHINE, make_profiles(64, 8)), b"of a TensorRT that lied")
    with pytest.raises(LnmtError, match="TensorRT cannot read it"):
        bench.load()
    bench.load(build=True)
    assert PlanCache(bench.cache).read(Key(bench.bundle.digest, MACHINE, make_profiles(64, 8))) == b"good, built here"


def batch(rows: int, tokens: int) -> Batch:
    ids = np.arange(rows * tokens, dtype=np.int64).reshape(rows, tokens) % 97
    return Batch(ids, np.ones_like(ids))


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1]), (64, [64]), (65, [32, 33]), (130, [43, 43, 44])])
def test_rows_beyond_the_profile_are_split(bench: Bench, rows: int, sizes: list[int]) -> None:
    prepare_plan(bench.bundle, bench.cache)
    engine = bench.load()
    sent = batch(rows, 16)
    output = engine.infer(sent)
    np.testing.assert_array_equal(output.logits[:, 0], sent.input_ids.sum(axis=1))
    np.testing.assert_array_equal(output.pooled[:, 1], sent.input_ids.sum(axis=1))
    assert isinstance(engine._loaded, OneByOne)
    assert engine._loaded.sizes == [(size, 16) for size in sizes]


def test_a_batch_that_is_too_long_is_refused(bench: Bench) -> None:
    prepare_plan(bench.bundle, bench.cache)
    engine = bench.load()
    engine.infer(batch(2, 64))
    with pytest.raises(LnmtError, match=r"longer than the TensorRT engine(?s:.*)\[2, 65\](?s:.*)at most 64 tokens"):
        engine.infer(batch(2, 65))


def test_both_profiles_are_warmed_up(bench: Bench) -> None:
    prepare_plan(bench.bundle, bench.cache)
    engine = bench.load()
    engine.warm_up()
    assert isinstance(engine._loaded, OneByOne)
    assert engine._loaded.sizes == [(1, 8), (2, 8)]
    engine.close()
    assert engine._loaded is None
