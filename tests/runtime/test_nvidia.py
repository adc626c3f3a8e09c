"""The driver is asked through real shared libraries: small ones of our own, with NVML's functions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lnmt.runtime.nvidia import HIDDEN, NO_GPU, Gpu, find_gpu

NVML = """
#include <string.h>
int nvmlInit_v2(void) { return %(init)s; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)7; return %(handle)s; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    if (device != (void *)7) return 2;
    strncpy(name, "NVIDIA L4", length);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { *major = 8; *minor = 9; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
"""


def library(path: Path, source: str) -> str:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc)")
    path.with_suffix(".c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(path.with_suffix(".c"))], check=True)
    return str(path)


@pytest.fixture(autouse=True)
def _visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_is_described(tmp_path: Path) -> None:
    nvml = library(tmp_path / "nvml.so", NVML % {"init": 0, "handle": 0})
    assert find_gpu(nvml, library(tmp_path / "cuda.so", "int x;")) == Gpu("NVIDIA L4", (8, 9), (13, 2))


@pytest.mark.parametrize(("init", "handle"), [(9, 0), (0, 6)])
def test_a_driver_that_shows_no_gpu(tmp_path: Path, init: int, handle: int) -> None:
    nvml = library(tmp_path / "nvml.so", NVML % {"init": init, "handle": handle})
    assert find_gpu(nvml, nvml) == NO_GPU


def test_no_driver(tmp_path: Path) -> None:
    assert find_gpu(cuda=str(tmp_path / "libcuda.so.1")) == (
        f"no NVIDIA GPU: its driver is not installed ({tmp_path}/libcuda.so.1 cannot be loaded)"
    )


def test_a_library_that_is_another(tmp_path: Path) -> None:
    other = library(tmp_path / "other.so", "int x;")
    assert find_gpu(other, other) == f"no NVIDIA GPU: its driver is not installed ({other} cannot be loaded)"


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert find_gpu() == HIDDEN
