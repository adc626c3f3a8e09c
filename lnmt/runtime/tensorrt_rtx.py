"""TensorRT-RTX through ONNX Runtime: for NVIDIA GPUs where the full TensorRT is not installed.

The package onnxruntime-ep-nv-tensorrt-rtx-cu13 carries its libraries and registers itself as a plugin execution
provider: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.gpus import Gpu, find_gpu
from lnmt.runtime.grouping import Arrays, cut, join
from lnmt.runtime.options import Options
from lnmt.runtime.trt_plan import GRAPH
from lnmt.types import Batch, Output, Precision

DISTRIBUTION = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
EXTRA = "pip install 'lnmt[tensorrt-rtx]'"
LEAST_CAPABILITY = (8, 0)  # Ampere, as the package says
LEAST_CUDA = (13, 0)
PRODUCTS = frozenset({"MatMul", "Gemm"})  # where nearly all the time goes: these must not stay on the CPU


def why_not_tensorrt_rtx(precision: Precision = "fp32", gpu: Gpu | str | None = None) -> str | None:
    """Why TensorRT-RTX cannot run here, with what to install; None where it can, at any precision. Never raises.

    `gpu` is what `find_gpu` found, asked here where it is not given. Imports no back end.
    """
    found = find_gpu() if gpu is None else gpu
    if isinstance(found, str):
        return found
    if found.capability < LEAST_CAPABILITY:
        return f"{found.name} is too old: compute capability {found.capability}, TensorRT-RTX wants 8.0 (Ampere)"
    if found.cuda < LEAST_CUDA:
        return f"the NVIDIA driver runs CUDA {found.cuda}, TensorRT-RTX wants 13.0: install driver 580 or newer"
    if find_spec("onnxruntime_ep_nv_tensorrt_rtx") is None:
        return f"{DISTRIBUTION} is not installed: {EXTRA}"
    return None


class TensorRtRtxEngine:
    """Runs `model.onnx`, whose types were made for it; its engine is compiled while it loads, in seconds, and cached.

    One profile for all shapes, taken from the model: what TensorRT-RTX compiles for is chosen when a shape comes.
    """

    def __init__(self) -> None:
        self._session: Any = None
        self._options = Options()
        self._bundle: Bundle

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        import onnxruntime

        model = bundle.file(GRAPH)
        self._bundle = bundle
        self._options = Options.of(bundle, ("group_rows",))
        problem = why_not_tensorrt_rtx(bundle.manifest.precision)
        if problem is not None:
            raise LnmtError(f"TensorRT-RTX cannot run here: {problem}", where=bundle.path, fix="see: lnmt doctor")
        name, devices = find_devices()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_provider_for_devices(devices[:1], provider_options(bundle, cache))
        try:
            session = onnxruntime.InferenceSession(str(model), options)
        except Exception as error:  # onnxruntime raises a dozen classes of its own, straight from C++
            raise LnmtError(
                f"TensorRT-RTX cannot load the model: {error}", where=model, fix="make the bundle again: lnmt optimize"
            ) from error
        check_placed(session, name, model)
        self._session = session

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        assert self._session is not None, "load first"
        manifest = self._bundle.manifest
        with explained("tensorrt_rtx", batch):
            groups = cut(batch, self._options.group_rows, manifest.pad_multiple)
            logits, pooled = join(groups, [self._run(group.batch) for group in groups], batch, manifest.task)
        return checked_output("tensorrt_rtx", batch, logits, pooled, manifest.task)

    def close(self) -> None:
        self._session = None

    def _run(self, batch: Batch) -> Arrays:
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        logits, pooled = self._session.run(["logits", "pooled"], feed)
        return logits, pooled


def find_devices() -> tuple[str, list[Any]]:
    """The provider's name and its GPUs; its library is registered with this process's ONNX Runtime where it is not.

    Raises LnmtError where the library does not load, or finds no GPU.
    """
    import onnxruntime
    import onnxruntime_ep_nv_tensorrt_rtx as provider

    name = str(provider.get_ep_name())

    def devices() -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]

    try:
        if not devices():
            onnxruntime.register_execution_provider_library(name, provider.get_library_path())
    except Exception as error:  # the same classes from C++; FileNotFoundError of a broken package
        raise LnmtError(
            f"TensorRT-RTX's library does not load: {str(error).strip()[:300]}",
            where=DISTRIBUTION,
            fix=f"pip install --force-reinstall {DISTRIBUTION}; it wants a driver for CUDA 13 and onnxruntime ≥ 1.24",
        ) from error
    found = devices()
    if not found:
        raise LnmtError("TensorRT-RTX finds no GPU that it can use", where=DISTRIBUTION, fix="see: lnmt doctor")
    return name, found


def provider_options(bundle: Bundle, cache: Path | None) -> dict[str, str]:
    """Compiled kernels are kept below `cache`, apart for each bundle: the cache itself knows no digest."""
    if cache is None:
        return {}
    directory = cache / "tensorrt_rtx" / bundle.digest.removeprefix("sha256:")[:16]
    directory.mkdir(parents=True, exist_ok=True)
    return {"nv_runtime_cache_path": str(directory)}


def check_placed(session: Any, provider: str, model: Path) -> None:
    """Raises LnmtError where a product runs elsewhere: ONNX Runtime falls back to the CPU without a word."""
    elsewhere = {
        f"{node.op_type} on {part.ep_name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type in PRODUCTS
    }
    if elsewhere:
        raise LnmtError(
            "TensorRT-RTX does not take the whole model",
            where=model,
            value=", ".join(sorted(elsewhere)),
            allowed=f"every {' and '.join(sorted(PRODUCTS))} on {provider}",
            fix="drop tensorrt_rtx from params.yaml: optimize.engines, or choose another precision",
        )
