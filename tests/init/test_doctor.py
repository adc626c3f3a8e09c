from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.init.doctor import Finding, _engine, _hardware, examine
from lnmt.runtime.availability import PRECISIONS
from lnmt.runtime.capabilities import Capabilities
from lnmt.runtime.gpus import HIDDEN, Gpu, Version
from lnmt.runtime.tensorrt_rtx import why_not_tensorrt_rtx

H100 = Gpu("NVIDIA H100", Version(9, 0), Version(13, 0), "580.65.06", 79.6)
ENGINES: dict[str, dict[str, str | None]] = {
    "openvino": {"fp32": None, "bf16": None, "fp16": "no fp16 here"},
    "onnxruntime": {"fp32": None, "bf16": "no kernels", "fp16": "no kernels"},
    "torch": {"fp32": "not installed", "bf16": "not installed", "fp16": "not installed"},
    "tensorrt": {"fp32": "no GPU", "bf16": "no GPU", "fp16": "no GPU"},
}


def machine(gpus: tuple[Gpu, ...] | str, int8: str | None = None) -> Capabilities:
    libraries = {"openvino": "3", "onnxruntime": "1", "torch": None}
    return Capabilities(
        "x86_64", "Some CPU", 2, ("avx512_bf16", "avx2"), libraries, ENGINES, "GenuineIntel", gpus, int8
    )


def test_the_machine_is_told() -> None:
    found = {finding.what: finding for finding in _hardware(machine((H100, H100)))}
    assert found["hardware"].found == "x86_64/avx512_bf16/2 cores/NVIDIA H100"
    assert found["cpu"].found == "GenuineIntel Some CPU; avx512_bf16, avx2"
    assert found["cpu, int8"].found == "8-bit products in hardware"
    assert found["gpu 1"].found == "NVIDIA H100, 79.6 GiB, compute capability 9.0, driver 580.65.06, CUDA 13.0"
    assert found["engine openvino"].found == "fp32, bf16 (openvino 3)"
    assert found["engine openvino, no fp16"].found == "no fp16 here"
    assert found["engine onnxruntime, no bf16, fp16"].found == "no kernels"


def test_what_cannot_run_says_why_and_only_what_can_be_mended_warns() -> None:
    found = {finding.what: finding for finding in _hardware(machine("no driver", "no VNNI"))}
    assert found["gpu"] == Finding("ok", "gpu", "no driver")
    assert found["cpu, int8"].found == "no VNNI"
    assert found["engine torch"] == Finding("warn", "engine torch", "cannot run here: not installed", "not installed")
    assert found["engine tensorrt"].state == "ok"
    assert found["engine tensorrt"].found == "cannot run here: no GPU"


def test_without_a_gpu_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = {finding.what: finding for finding in examine(tmp_path)}
    assert found["gpu"].found == HIDDEN
    assert found["engine tensorrt_rtx"] == Finding("ok", "engine tensorrt_rtx", f"cannot run here: {HIDDEN}", HIDDEN)


def test_a_missing_library_names_the_extra_that_brings_it() -> None:
    reasons: dict[str, str | None] = {one: why_not_tensorrt_rtx(one, H100) for one in PRECISIONS}
    if not any(reasons.values()):
        pytest.skip("TensorRT-RTX is installed")
    [finding] = _engine("tensorrt_rtx", reasons, {})
    assert finding.fix is not None
    assert "pip install 'lnmt[tensorrt-rtx]'" in finding.fix
