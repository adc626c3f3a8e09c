"""The quantised graph as the files that an engine loads. The same graph gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lnmt.files import write_bytes


def write_graph(model: Any, engine: str, directory: Path) -> None:
    """`model.onnx`; of OpenVINO `model.xml` and `model.bin`. Raises LnmtError where OpenVINO cannot read the graph."""
    data = bytes(model.SerializeToString(deterministic=True))
    if engine == "openvino":
        from lnmt.optimization.backends.openvino import write_openvino

        write_openvino(data, directory)
    else:
        write_bytes(directory / "model.onnx", data)
