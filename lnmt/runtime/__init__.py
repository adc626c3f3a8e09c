"""Engines by name. Each back end is imported only in the file that bears its name."""

from __future__ import annotations

from lnmt.plugins.table import Table
from lnmt.runtime.engine import Engine

ENGINES: Table[type[Engine]] = Table(
    "engine",
    {
        "torch": "lnmt.runtime.torch:TorchEngine",
        "torch_compile": "lnmt.runtime.torch_compile:TorchCompileEngine",
        "torchscript": "lnmt.runtime.torchscript:TorchScriptEngine",
        "onnxruntime": "lnmt.runtime.onnxruntime:OnnxRuntimeEngine",
        "openvino": "lnmt.runtime.openvino:OpenVinoEngine",
        "tensorrt": "lnmt.runtime.tensorrt:TensorRtEngine",
        "tensorrt_rtx": "lnmt.runtime.tensorrt_rtx:TensorRtRtxEngine",
    },
)

__all__ = ["ENGINES", "Engine"]
