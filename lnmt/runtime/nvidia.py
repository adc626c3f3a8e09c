"""The NVIDIA GPU of this machine, asked of its driver without importing a back end.

NVML, not CUDA: it opens no CUDA context, which would be broken in every process that is forked afterwards.
Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass

NVML = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
NO_DRIVER = "no NVIDIA GPU: its driver is not installed ({name} cannot be loaded)"
NO_GPU = "no NVIDIA GPU: the driver is installed but shows none (nvidia-smi -L; is it given to this container?)"
HIDDEN = "no NVIDIA GPU: CUDA_VISIBLE_DEVICES hides all of them"
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


@dataclass(frozen=True)
class Gpu:
    """The first GPU."""

    name: str  # `NVIDIA L4`
    capability: tuple[int, int]  # compute capability, (8, 9)
    cuda: tuple[int, int]  # newest CUDA version that its driver runs, (13, 0)


def find_gpu(nvml: str = NVML, cuda: str = CUDA) -> Gpu | str:
    """The GPU, or why there is none that can be used. Never raises."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return HIDDEN
    library = cuda
    try:
        ctypes.CDLL(library)  # what computes
        library = nvml
        return _ask(ctypes.CDLL(library))  # what tells
    except (OSError, AttributeError):  # no such library, or one without these functions
        return NO_DRIVER.format(name=library)


def _ask(nvml: ctypes.CDLL) -> Gpu | str:
    if nvml.nvmlInit_v2() != 0:
        return NO_GPU
    try:
        handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
        major, minor, cuda = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        # one after the other, up to the first that fails
        steps: tuple[Callable[[], int], ...] = (
            lambda: nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(handle)),
            lambda: nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(NAME_BYTES)),
            lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)),
            lambda: nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)),
        )
        if any(step() != 0 for step in steps):
            return NO_GPU
        # CUDA's own spelling: 13020 is 13.2
        version = (cuda.value // 1000, cuda.value % 1000 // 10)
        return Gpu(name.value.decode(errors="replace"), (major.value, minor.value), version)
    finally:
        nvml.nvmlShutdown()
