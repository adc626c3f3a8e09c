"""The NVIDIA GPUs of this machine, asked of their driver without importing a back end.

NVML, not CUDA: it opens no CUDA context, which would be broken in every process that is forked afterwards.
Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

NVML = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
NO_DRIVER = "no NVIDIA GPU: its driver is not installed ({name} cannot be loaded)"
NO_GPU = "no NVIDIA GPU: the driver is installed but shows none (nvidia-smi -L; is it given to this container?)"
HIDDEN = "no NVIDIA GPU: CUDA_VISIBLE_DEVICES hides all of them"
SILENT = "no NVIDIA GPU: the driver did not answer in {seconds:g} s: restart it or the machine"
NAME_BYTES, DRIVER_BYTES = 96, 80  # NVML_DEVICE_NAME_V2_BUFFER_SIZE, NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED
PATIENCE_S = 5.0  # a driver that is in trouble answers never


class Version(NamedTuple):
    """Two numbers that compare as versions do."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Gpu:
    """One GPU and its driver."""

    name: str  # `NVIDIA L4`
    capability: Version  # compute capability, 8.9
    cuda: Version  # the newest that the driver runs, 13.0
    driver: str  # `580.65.06`
    memory_gib: float | None  # None: it has none of its own, it shares the machine's

    def __str__(self) -> str:
        memory = "memory of the machine" if self.memory_gib is None else f"{self.memory_gib:g} GiB"
        return f"{self.name}, {memory}, compute capability {self.capability}, driver {self.driver}, CUDA {self.cuda}"


def list_gpus(nvml: str = NVML, cuda: str = CUDA, *, patience_s: float = PATIENCE_S) -> tuple[Gpu, ...] | str:
    """Every GPU, or in words why there is none to use. Never raises, and takes `patience_s` seconds at most."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return HIDDEN
    found: list[tuple[Gpu, ...] | str] = []
    asking = threading.Thread(target=lambda: found.append(_load_and_ask(nvml, cuda)), daemon=True)
    asking.start()
    asking.join(patience_s)
    return found[0] if found else SILENT.format(seconds=patience_s)


def find_gpu() -> Gpu | str:
    """The first one, or why there is none to use. Never raises."""
    found = list_gpus()
    return found if isinstance(found, str) else found[0]


def _load_and_ask(nvml: str, cuda: str) -> tuple[Gpu, ...] | str:
    library = cuda
    try:
        ctypes.CDLL(library)  # what computes
        library = nvml
        return _ask(ctypes.CDLL(library))  # what tells
    except (OSError, AttributeError):  # no such library, or one without these functions
        return NO_DRIVER.format(name=library)


def _ask(nvml: ctypes.CDLL) -> tuple[Gpu, ...] | str:
    if nvml.nvmlInit_v2() != 0:
        return NO_GPU
    try:
        count, cuda, driver = ctypes.c_uint(), ctypes.c_int(), ctypes.create_string_buffer(DRIVER_BYTES)
        if not _all_well(
            lambda: nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)),
            lambda: nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)),
            lambda: nvml.nvmlSystemGetDriverVersion(driver, ctypes.c_uint(DRIVER_BYTES)),
        ):
            return NO_GPU
        # CUDA's own spelling: 13020 is 13.2
        version = Version(cuda.value // 1000, cuda.value % 1000 // 10)
        gpus = [_describe(nvml, index, version, driver.value.decode(errors="replace")) for index in range(count.value)]
        return tuple(gpu for gpu in gpus if gpu is not None) or NO_GPU
    finally:
        nvml.nvmlShutdown()


def _describe(nvml: ctypes.CDLL, index: int, cuda: Version, driver: str) -> Gpu | None:
    """The GPU at `index`; None where the driver tells nothing of it."""
    handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ulonglong * 3)()  # bytes: total, free, used
    if not _all_well(
        lambda: nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)),
        lambda: nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(NAME_BYTES)),
        lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)),
    ):
        return None
    status = nvml.nvmlDeviceGetMemoryInfo(handle, memory)
    if status not in (0, NOT_SUPPORTED):
        return None
    gib = round(memory[0] / 2**30, 1) if status == 0 else None
    return Gpu(name.value.decode(errors="replace"), Version(major.value, minor.value), cuda, driver, gib)


def _all_well(*steps: Callable[[], int]) -> bool:
    """One after the other, up to the first that fails."""
    return all(step() == 0 for step in steps)
