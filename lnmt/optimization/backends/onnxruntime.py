"""ONNX Runtime takes the ONNX export as it is; it fuses the graph when it loads it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx


class OnnxRuntimeBackend:
    """Exports."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        shutil.copyfile(export_onnx(source), directory / "model.onnx")


def answer(graph: bytes, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What a serialised graph with inputs of these names answers on the CPU: `logits` and `pooled`.

    Raises what ONNX Runtime does where it is no graph, or one that cannot run this.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it runs once
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found: list[NDArray[Any]] = session.run(["logits", "pooled"], dict(feed))
    return found
