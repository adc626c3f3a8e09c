"""ONNX Runtime takes the ONNX export as it is; it fuses the graph when it loads it."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx


class OnnxRuntimeBackend:
    """Exports."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        shutil.copyfile(export_onnx(source), directory / "model.onnx")
