from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import sha256_file
from lnmt.runtime import tensorrt as module
from lnmt.runtime.gpus import Gpu, Version
from lnmt.runtime.tensorrt import TensorRtEngine, why_not_tensorrt
from lnmt.runtime.tensorrt_rtx import TensorRtRtxEngine, find_devices, provider_options, why_not_tensorrt_rtx
from lnmt.runtime.trt_plan import GRAPH, Key, Machine, Profile, profiles_of, write_plan
from lnmt.types import Batch, Precision
from tests.tiny_bundle import tiny_bundle


def gpu(name: str, capability: tuple[int, int], cuda: tuple[int, int]) -> Gpu:
    return Gpu(name, Version(*capability), Version(*cuda), "580.65.06", 16.0)


L4 = gpu("NVIDIA L4", (8, 9), (13, 0))


@pytest.mark.parametrize(
    ("found", "precision", "reason"),
    [
        ("no NVIDIA GPU", "fp32", "no NVIDIA GPU"),
        (gpu("V100", (7, 0), (13, 0)), "fp32", "V100 is too old: compute capability 7.0, TensorRT wants 7.5"),
        (gpu("T4", (7, 5), (13, 0)), "bf16", "T4 has no bf16 arithmetic: compute capability 7.5, it came with 8.0"),
        (gpu("L4", (8, 9), (12, 8)), "fp16", "the NVIDIA driver runs CUDA 12.8, TensorRT wants 13.0"),
    ],
)
def test_why_tensorrt_cannot_run(found: Gpu | str, precision: Precision, reason: str) -> None:
    told = why_not_tensorrt(precision, found)
    assert told is not None
    assert told.startswith(reason)


def test_missing_packages_are_told_with_what_to_install() -> None:
    if find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    missing = "libraries (tensorrt_cu13_libs)" if find_spec("tensorrt_bindings") else "Python bindings"
    assert why_not_tensorrt("fp32", L4) == (
        f"TensorRT's {missing} are not installed: pip install tensorrt-cu13, from NVIDIA's package index"
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("no NVIDIA GPU", "no NVIDIA GPU"),
        (gpu("T4", (7, 5), (13, 0)), "T4 is too old: compute capability 7.5, TensorRT-RTX wants 8.0 (Ampere)"),
        (gpu("L4", (8, 9), (12, 8)), "the NVIDIA driver runs CUDA 12.8, TensorRT-RTX wants 13.0"),
    ],
)
def test_why_tensorrt_rtx_cannot_run(found: Gpu | str, reason: str) -> None:
    told = why_not_tensorrt_rtx("fp32", found)
    assert told is not None
    assert told.startswith(reason)


def test_the_extra_of_tensorrt_rtx_is_named() -> None:
    installed = find_spec("onnxruntime_ep_nv_tensorrt_rtx") is not None
    told = "onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed: pip install 'lnmt[tensorrt-rtx]'"
    assert why_not_tensorrt_rtx("fp32", L4) == (None if installed else told)


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

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.profiles = profiles
        self.sizes: list[tuple[int, ...]] = []

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        assert any(profile.takes(*input_ids.shape) for profile in self.profiles)
        self.sizes.append(input_ids.shape)
        sums = (input_ids * attention_mask).sum(axis=1, keepdims=True).astype(np.float32)
        return [sums.repeat(3, axis=1), sums.repeat(2, axis=1)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of bundles; plans that start with `good` are taken by what stands for TensorRT."""

    def deserialise(plan: bytes, profiles: Sequence[Profile]) -> OneByOne | None:
        return OneByOne(profiles) if plan.startswith(b"good") else None

    monkeypatch.setattr(module, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(module, "_deserialise", deserialise)
    return tmp_path


def bundle_with(
    root: Path,
    plan: bytes | None = b"good",
    *,
    machine: Machine = MACHINE,
    built_for: int | None = None,
    **settings: int,
) -> Bundle:
    """A bundle whose plan was built on `machine` for groups of `built_for` rows."""
    reference = tiny_bundle(root / "reference")
    draft = {field: getattr(reference.manifest, field) for field in Draft.model_fields}
    with new_bundle(root / "bundle", Draft(**{**draft, "engine": "tensorrt", "settings": settings})) as directory:
        (directory / GRAPH).write_bytes(b"a graph")
        if plan is not None:
            profiles = profiles_of(reference.manifest, built_for)
            write_plan(directory, Key(sha256_file(directory / GRAPH), machine, profiles), plan)
    return Bundle.open(root / "bundle")


def load(bundle: Bundle) -> TensorRtEngine:
    engine = TensorRtEngine()
    engine.load(bundle, threads=None, cache=bundle.path.parent / "cache")
    return engine


def sizes(engine: TensorRtEngine) -> list[tuple[int, ...]]:
    assert isinstance(engine._loaded, OneByOne)
    return engine._loaded.sizes


L40 = replace(MACHINE, gpu="NVIDIA L40")
NEWER = replace(MACHINE, tensorrt="11.5.0.1")


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ({"plan": None}, "there is none"),
        ({"machine": L40}, r"for machine 11\.4\.0\.106, NVIDIA L40, \[8, 9\]; here it is 11\.4\.0\.106, NVIDIA L4"),
        ({"machine": NEWER}, r"for machine 11\.5\.0\.1, NVIDIA L4, \[8, 9\]; here it is 11\.4\.0\.106"),
        ({"group_rows": 8}, "for profiles"),
        ({"built_for": 8}, "for profiles"),
        ({"plan": b"of a TensorRT that lied"}, "TensorRT cannot read it"),
    ],
)
def test_without_a_plan_of_this_machine_nothing_is_loaded_and_the_command_told(
    root: Path, bundle: dict[str, Any], reason: str
) -> None:
    message = rf"no TensorRT engine for this machine(?s:.*){reason}(?s:.*)before a server starts: lnmt stage optimize"
    with pytest.raises(LnmtError, match=message):
        load(bundle_with(root, **bundle))
    assert not (root / "cache").exists()


def batch(rows: int, tokens: int) -> Batch:
    ids = np.arange(rows * tokens, dtype=np.int64).reshape(rows, tokens) % 97
    return Batch(ids, np.ones_like(ids))


@pytest.mark.parametrize(("rows", "parts"), [(1, [1]), (64, [64]), (65, [32, 33]), (130, [43, 43, 44])])
def test_rows_beyond_the_profile_are_split(root: Path, rows: int, parts: list[int]) -> None:
    engine = load(bundle_with(root))
    sent = batch(rows, 16)
    output = engine.infer(sent)
    np.testing.assert_array_equal(output.logits[:, 0], sent.input_ids.sum(axis=1))
    np.testing.assert_array_equal(output.pooled[:, 1], sent.input_ids.sum(axis=1))
    assert sizes(engine) == [(part, 16) for part in parts]


def test_groups_of_like_length_run_on_the_plan_that_was_built_for_them(root: Path) -> None:
    engine = load(bundle_with(root, group_rows=8, built_for=8))
    sent = batch(17, 32)
    lengths = [5, 32, 9] + [6] * 7 + [20] * 7
    for row, length in enumerate(lengths):
        sent.attention_mask[row, length:] = 0
    output = engine.infer(sent)
    np.testing.assert_array_equal(output.logits[:, 0], (sent.input_ids * sent.attention_mask).sum(axis=1))
    assert sizes(engine) == [(8, 32), (8, 16), (1, 8)]


def test_a_batch_that_is_too_long_is_refused(root: Path) -> None:
    engine = load(bundle_with(root))
    engine.infer(batch(2, 64))
    with pytest.raises(LnmtError, match=r"longer than the TensorRT engine(?s:.*)\[2, 65\](?s:.*)at most 64 tokens"):
        engine.infer(batch(2, 65))


@pytest.mark.parametrize(("settings", "calls"), [({}, [(1, 8), (2, 8)]), ({"group_rows": 1}, [(1, 8)] * 3)])
def test_every_profile_is_warmed_up(root: Path, settings: dict[str, Any], calls: list[tuple[int, int]]) -> None:
    engine = load(bundle_with(root, built_for=settings.get("group_rows"), **settings))
    engine.warm_up()
    assert sizes(engine) == calls
    engine.close()
    assert engine._loaded is None


@pytest.mark.parametrize("engine", [TensorRtEngine, TensorRtRtxEngine])
def test_a_setting_that_is_none_of_theirs_is_refused(
    tmp_path: Path, engine: type[TensorRtEngine | TensorRtRtxEngine]
) -> None:
    with pytest.raises(UnknownName, match=r"unknown setting of engine 'tensorrt' 'streams'(?s:.*)group_rows"):
        engine().load(bundle_with(tmp_path, streams=2), threads=None, cache=None)
