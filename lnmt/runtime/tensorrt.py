"""TensorRT on an NVIDIA GPU.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.gpus import Gpu, find_gpu
from lnmt.runtime.grouping import Arrays, cut, join
from lnmt.runtime.options import Options
from lnmt.runtime.trt_build import INPUTS, make_logger
from lnmt.runtime.trt_plan import GRAPH, Key, Machine, Profile, parts, profiles_of, read_plan
from lnmt.types import Batch, Output, Precision

if TYPE_CHECKING:
    import tensorrt
    import torch

OUTPUTS = ("logits", "pooled")
LEAST_CAPABILITY = (7, 5)  # Turing: the oldest that TensorRT's packages for CUDA 13 have kernels for
BF16_CAPABILITY = (8, 0)
LEAST_CUDA = (13, 0)
INSTALL = "pip install tensorrt-cu13, from NVIDIA's package index"


def why_not_tensorrt(precision: Precision = "fp32", gpu: Gpu | str | None = None) -> str | None:
    """Why TensorRT cannot run here at this precision, with what to install; None where it can. Never raises.

    `gpu` is what `find_gpu` found, asked here where it is not given. Imports neither TensorRT nor torch.
    """
    found = find_gpu() if gpu is None else gpu
    if isinstance(found, str):
        return found
    return _why_not_gpu(found, precision) or _why_not_packages()


def _why_not_gpu(gpu: Gpu, precision: Precision) -> str | None:
    if gpu.capability < LEAST_CAPABILITY:
        return f"{gpu.name} is too old: compute capability {gpu.capability}, TensorRT wants 7.5"
    if precision == "bf16" and gpu.capability < BF16_CAPABILITY:
        return f"{gpu.name} has no bf16 arithmetic: compute capability {gpu.capability}, it came with 8.0"
    if gpu.cuda < LEAST_CUDA:
        return f"the NVIDIA driver runs CUDA {gpu.cuda}, TensorRT wants 13.0: install driver 580 or newer"
    return None


def _why_not_packages() -> str | None:
    for module, what in (
        ("tensorrt_bindings", "TensorRT's Python bindings are"),
        ("tensorrt_libs", "TensorRT's libraries (tensorrt_cu13_libs) are"),
        ("tensorrt", "TensorRT is"),
    ):
        # a Debian package brings `tensorrt` whole, without the parts that the wheels are cut into
        if find_spec("tensorrt") is None and find_spec(module) is None:
            return f"{what} not installed: {INSTALL}"
    if _torch_is_for_cpus():
        return "torch is built for CPUs alone, and the engine's memory is torch's: pip install torch, built for CUDA 13"
    return None


def _torch_is_for_cpus() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def this_machine() -> Machine:
    """TensorRT and the GPU that torch uses. Raises LnmtError where one of them is missing."""
    problem = why_not_tensorrt()
    if problem is not None:
        raise LnmtError(f"TensorRT cannot run here: {problem}", fix="see: lnmt doctor")
    try:
        import tensorrt
        import torch

        device = torch.cuda.get_device_properties(torch.cuda.current_device())
    except (
        ImportError,
        RuntimeError,
        AssertionError,
    ) as error:  # AssertionError: torch's word for a build without CUDA
        raise LnmtError(
            f"TensorRT cannot run here: {str(error).strip()[:300]}",
            fix="install tensorrt-cu13 and a torch that are both built for the driver's CUDA (see nvidia-smi)",
        ) from error
    return Machine(tensorrt.__version__, device.name, (device.major, device.minor))


class TensorRtEngine:
    """Runs the plan that the bundle carries: it was built by the search, for this TensorRT, GPU and these profiles.

    It was certified as it stands, so no other one is built in its place; that would take minutes, too, while a server
    starts. With `group_rows` a batch runs group by group.
    """

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._options = Options()
        self._bundle: Bundle

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        bundle.file(GRAPH)  # a bundle without one is none of this engine
        self._bundle = bundle
        self._options = Options.of(bundle, ("group_rows",))
        profiles = profiles_of(bundle.manifest, self._options.group_rows)
        found = read_plan(bundle.path, Key(bundle.manifest.files[GRAPH], this_machine(), profiles))
        if isinstance(found, bytes):
            self._loaded = _deserialise(found, profiles)
            found = "TensorRT cannot read it"
        if self._loaded is None:
            raise LnmtError(
                "the bundle has no TensorRT engine for this machine",
                where=bundle.path,
                value=found,
                fix="build one here, before a server starts: lnmt stage optimize; then register and release it",
            )

    def warm_up(self) -> None:
        width = min(8, self._bundle.manifest.max_tokens)
        single = warm_up_batch(width)
        self.infer(single)
        # the profile for batches has kernels of its own
        self.infer(Batch(single.input_ids.repeat(2, axis=0), single.attention_mask.repeat(2, axis=0)))

    def infer(self, batch: Batch) -> Output:
        assert self._loaded is not None, "load first"
        manifest = self._bundle.manifest
        rows, tokens = batch.input_ids.shape
        _, max_tokens = self._loaded.profiles[-1].most
        if tokens > max_tokens:
            raise LnmtError(
                "a batch is longer than the TensorRT engine was built for",
                where="tensorrt.infer",
                value=f"input_ids [{rows}, {tokens}]",
                allowed=f"at most {max_tokens} tokens",
                fix="cut texts to the bundle's max_tokens, as Predictor.encode does",
            )
        with explained("tensorrt", batch):
            groups = cut(batch, self._options.group_rows, manifest.pad_multiple)
            logits, pooled = join(groups, [self._run(group.batch) for group in groups], batch, manifest.task)
        return checked_output("tensorrt", batch, logits, pooled, manifest.task)

    def close(self) -> None:
        self._loaded = None

    def _run(self, batch: Batch) -> Arrays:
        """In as few calls as the largest profile allows."""
        assert self._loaded is not None, "load first"
        max_rows, _ = self._loaded.profiles[-1].most
        found = [
            self._loaded.run(batch.input_ids[part], batch.attention_mask[part])
            for part in parts(len(batch.input_ids), max_rows)
        ]
        logits, pooled = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return logits, pooled


@dataclass
class _Loaded:
    """A plan in the GPU's memory, with one context for each profile."""

    engine: tensorrt.ICudaEngine
    contexts: list[tensorrt.IExecutionContext]
    profiles: Sequence[Profile]
    stream: torch.cuda.Stream
    keep: Any  # runtime and logger, which must outlive the engine

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Logits and pooled states of a part that fits a profile."""
        import torch

        chosen = next(place for place, profile in enumerate(self.profiles) if profile.takes(*input_ids.shape))
        with torch.cuda.stream(self.stream):
            inputs = dict(zip(INPUTS, (input_ids, attention_mask), strict=True))
            outputs = _enqueue(self.engine, self.contexts[chosen], inputs, self.stream.cuda_stream)
            found = [tensor.float().cpu() for tensor in outputs]
        self.stream.synchronize()
        return [tensor.numpy() for tensor in found]


def _deserialise(plan: bytes, profiles: Sequence[Profile]) -> _Loaded | None:
    """None where TensorRT does not take it."""
    import tensorrt
    import torch

    logger = make_logger()
    runtime = tensorrt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None or engine.num_optimization_profiles != len(profiles):
        return None
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    if names != {*INPUTS, *OUTPUTS}:
        return None
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    contexts = []
    for place in range(len(profiles)):
        context = engine.create_execution_context()
        if context is None or not context.set_optimization_profile_async(place, stream.cuda_stream):
            return None
        contexts.append(context)
    stream.synchronize()
    return _Loaded(engine, contexts, profiles, stream, (runtime, logger))


def _enqueue(
    engine: tensorrt.ICudaEngine,
    context: tensorrt.IExecutionContext,
    inputs: dict[str, NDArray[np.int64]],
    stream: int,
) -> list[torch.Tensor]:
    """Run one call on the current torch stream; its outputs are new tensors on the GPU."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for name, array in inputs.items():
        dtype = _torch_type(engine.get_tensor_dtype(name))
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array)).to("cuda", dtype)
        if not context.set_input_shape(name, array.shape):
            raise RuntimeError(f"TensorRT refuses {name} {list(array.shape)}")
    missing = context.infer_shapes()
    if missing:
        raise RuntimeError(f"TensorRT knows no shape of {', '.join(missing)}")
    for name in OUTPUTS:
        shape = tuple(context.get_tensor_shape(name))
        tensors[name] = torch.empty(shape, dtype=_torch_type(engine.get_tensor_dtype(name)), device="cuda")
    for name, tensor in tensors.items():
        if not context.set_tensor_address(name, tensor.data_ptr()):
            raise RuntimeError(f"TensorRT refuses the memory of {name}")
    if not context.execute_async_v3(stream):
        raise RuntimeError("TensorRT cannot enqueue the call")
    return [tensors[name] for name in OUTPUTS]


def _torch_type(dtype: tensorrt.DataType) -> torch.dtype:
    """TensorRT's type as torch's; graphs of before TensorRT 10 take int32 where ours give int64."""
    import tensorrt
    import torch

    known = {
        tensorrt.DataType.FLOAT: torch.float32,
        tensorrt.DataType.HALF: torch.float16,
        tensorrt.DataType.BF16: torch.bfloat16,
        tensorrt.DataType.INT32: torch.int32,
        tensorrt.DataType.INT64: torch.int64,
    }
    return known[dtype]
