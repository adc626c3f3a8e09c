"""Engines by name. Each back end is imported only in the file that bears its name."""

from __future__ import annotations

from lnmt.plugins.table import Table
from lnmt.runtime.engine import Engine

ENGINES: Table[type[Engine]] = Table(
    "engine",
    {
        "torch": "lnmt.runtime.torch:TorchEngine",
        "onnxruntime": "lnmt.runtime.onnxruntime:OnnxRuntimeEngine",
        "openvino": "lnmt.runtime.openvino:OpenVinoEngine",
    },
)

__all__ = ["ENGINES", "Engine"]
