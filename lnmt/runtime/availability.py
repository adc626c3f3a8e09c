"""Which engine runs in which precision on a machine; why each other pair does not, in words that tell what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from lnmt.runtime.cpu import BF16_FLAGS, FP16_FLAGS, INT8_FLAGS, Cpu
from lnmt.runtime.gpus import Gpu
from lnmt.types import Precision

# engine → the distributions that bring it, any one of them; the first is the one to install
LIBRARIES = {
    "torch": ("torch",),
    "torch_compile": ("torch",),
    "torchscript": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt-cu13", "tensorrt", "tensorrt-cu13-bindings"),
    "tensorrt_rtx": ("onnxruntime-ep-nv-tensorrt-rtx-cu13",),
}
TORCH = ("torch", "torch_compile", "torchscript")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NO_BF16 = "the CPU has no bf16 arithmetic (amx_bf16, avx512_bf16 or Arm bf16): it would be emulated"
NO_FP16 = "the CPU has no fp16 arithmetic (amx_fp16 or avx512_fp16): it would be emulated; use bf16 or a GPU"
NO_COMPILER = "there is no C++ compiler, which builds what torch.compile writes: install g++ or clang++"
TORCH_FOR_CPUS = "torch is built for CPUs alone: install its build for CUDA"
ORT_BF16 = "ONNX Runtime has no bf16 kernels on CPUs"
ORT_FP16 = "ONNX Runtime emulates fp16 on CPUs: pip install onnxruntime-gpu on a machine with an NVIDIA GPU"

Reasons = dict[str, dict[str, str | None]]  # engine → precision → why not; None: it runs here


def engines_for(cpu: Cpu, gpu: Gpu | str, libraries: Mapping[str, str | None], *, compiler: bool = True) -> Reasons:
    """Every engine × precision. `gpu`: the first one or why there is none; `libraries`: distribution → version."""
    reasons: Reasons = {
        **dict.fromkeys(TORCH, _torch(cpu, gpu, libraries)),
        "onnxruntime": {"fp32": None, "bf16": ORT_BF16, "fp16": _onnxruntime_fp16(gpu, libraries)},
        "openvino": {
            "fp32": None,
            "bf16": None if cpu.has(BF16_FLAGS) else NO_BF16,
            "fp16": None if cpu.has(FP16_FLAGS) else NO_FP16,
        },
    }
    for engine in reasons:
        names = LIBRARIES[engine]
        if not any(libraries.get(name) for name in names):
            reasons[engine] = dict.fromkeys(PRECISIONS, f"{names[0]} is not installed: pip install {names[0]}")
    if not compiler and libraries.get("torch"):
        reasons["torch_compile"] = dict.fromkeys(PRECISIONS, NO_COMPILER)
    return reasons | _nvidia(gpu)


def int8_products(cpu: Cpu) -> str | None:
    """Why products of 8-bit numbers gain little on this CPU; None where it has instructions for them.

    Quantised models run without them too, and give the same answers.
    """
    if cpu.has(INT8_FLAGS):
        return None
    return "the CPU has no 8-bit dot products (VNNI, AMX or Arm dotprod): int8 saves memory, hardly time"


def _torch(cpu: Cpu, gpu: Gpu | str, libraries: Mapping[str, str | None]) -> dict[str, str | None]:
    fp16 = gpu if isinstance(gpu, str) else None
    if fp16 is None and (libraries.get("torch") or "").endswith("+cpu"):
        fp16 = TORCH_FOR_CPUS
    return {
        "fp32": None,
        "bf16": None if cpu.has(BF16_FLAGS) else NO_BF16,
        "fp16": None if fp16 is None else f"PyTorch runs fp16 on GPUs alone: {fp16}",
    }


def _onnxruntime_fp16(gpu: Gpu | str, libraries: Mapping[str, str | None]) -> str | None:
    if isinstance(gpu, Gpu) and libraries.get("onnxruntime-gpu"):
        return None  # by its provider for TensorRT
    return ORT_FP16


def _nvidia(gpu: Gpu | str) -> Reasons:
    from lnmt.runtime.tensorrt import why_not_tensorrt
    from lnmt.runtime.tensorrt_rtx import why_not_tensorrt_rtx

    return {
        "tensorrt": {precision: why_not_tensorrt(precision, gpu) for precision in PRECISIONS},
        "tensorrt_rtx": {precision: why_not_tensorrt_rtx(precision, gpu) for precision in PRECISIONS},
    }
