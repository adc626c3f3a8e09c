"""The driver is asked through real shared libraries: small ones of our own, with NVML's functions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lnmt.runtime.gpus import HIDDEN, NO_GPU, Gpu, Version, list_gpus

NVML = """
#include <string.h>
#include <unistd.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { %(wait)s; return %(init)s; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = %(count)s; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned length) { strncpy(version, "580.65.06", length); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(7L + index); return %(handle)s; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    strncpy(name, device == (void *)7 ? "NVIDIA H100 80GB HBM3" : "NVIDIA L4", length);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    *major = device == (void *)7 ? 9 : 8;
    *minor = device == (void *)7 ? 0 : 9;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    memory->total = device == (void *)7 ? 85520809984ULL : 24152899584ULL;
    return %(memory)s;
}
"""
FINE = {"wait": "", "init": 0, "count": 2, "handle": 0, "memory": 0}
NOT_SUPPORTED, UNKNOWN = 3, 999  # NVML's


def library(path: Path, source: str) -> str:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc)")
    path.with_suffix(".c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(path.with_suffix(".c"))], check=True)
    return str(path)


def ask(directory: Path, *, patience_s: float = 5.0, **change: object) -> tuple[Gpu, ...] | str:
    nvml = library(directory / "nvml.so", NVML % {**FINE, **change})
    return list_gpus(nvml, library(directory / "cuda.so", "int x;"), patience_s=patience_s)


@pytest.fixture(autouse=True)
def _visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_every_gpu_is_described(tmp_path: Path) -> None:
    cuda, driver = Version(13, 2), "580.65.06"
    found = ask(tmp_path)
    assert found == (
        Gpu("NVIDIA H100 80GB HBM3", Version(9, 0), cuda, driver, 79.6),
        Gpu("NVIDIA L4", Version(8, 9), cuda, driver, 22.5),
    )
    assert str(found[1]) == "NVIDIA L4, 22.5 GiB, compute capability 8.9, driver 580.65.06, CUDA 13.2"


def test_memory_that_is_the_machines(tmp_path: Path) -> None:
    found = ask(tmp_path, count=1, memory=NOT_SUPPORTED)
    assert isinstance(found, tuple)
    assert found[0].memory_gib is None
    assert "NVIDIA H100 80GB HBM3, memory of the machine, compute capability 9.0" in str(found[0])


@pytest.mark.parametrize("change", [{"init": 9}, {"handle": 6}, {"count": 0}, {"memory": UNKNOWN}])
def test_a_driver_that_shows_no_gpu(tmp_path: Path, change: dict[str, int]) -> None:
    assert ask(tmp_path, **change) == NO_GPU


def test_a_driver_that_hangs_is_left(tmp_path: Path) -> None:
    found = ask(tmp_path, patience_s=0.05, wait="sleep(2)")
    assert found == "no NVIDIA GPU: the driver did not answer in 0.05 s: restart it or the machine"


def test_no_driver(tmp_path: Path) -> None:
    assert list_gpus(cuda=str(tmp_path / "libcuda.so.1")) == (
        f"no NVIDIA GPU: its driver is not installed ({tmp_path}/libcuda.so.1 cannot be loaded)"
    )


def test_a_library_that_is_another(tmp_path: Path) -> None:
    other = library(tmp_path / "other.so", "int x;")
    assert list_gpus(other, other) == f"no NVIDIA GPU: its driver is not installed ({other} cannot be loaded)"


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert list_gpus() == HIDDEN


def test_versions_compare_as_numbers() -> None:
    assert Version(9, 0) < Version(10, 0)
    assert Version(8, 9) < (9, 0)
    assert f"{Version(12, 8)}" == "12.8"
