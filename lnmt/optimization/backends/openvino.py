"""OpenVINO's own format from the ONNX export.

Read from ONNX rather than traced from PyTorch: it runs as fast, takes 0.2 s instead of 7, and
`openvino.convert_model` reports its use over the network.
"""

from __future__ import annotations

from pathlib import Path

import openvino

from lnmt.errors import LnmtError
from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx


class OpenVinoBackend:
    """Writes `model.xml` and `model.bin` with fp32 weights; the engine's precision hint does the rest."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        path = export_onnx(source)
        try:
            model = openvino.Core().read_model(path)
            openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)
        except RuntimeError as error:
            raise LnmtError(
                f"OpenVINO cannot read the ONNX export: {error}", where=path, fix="drop it from optimize.engines"
            ) from error
