"""OpenVINO's own format from an ONNX graph: the export as it is, or quantised.

Read from ONNX rather than traced from PyTorch: it runs as fast, takes 0.2 s instead of 7, and
`openvino.convert_model` reports its use over the network. Of a quantised graph OpenVINO reads QuantizeLinear and
DequantizeLinear as its own FakeQuantize, and runs 8-bit products for them.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import openvino

from lnmt.errors import LnmtError
from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx

ROOM_BYTES = 2**20  # that model.xml may take beside the numbers


class OpenVinoBackend:
    """Writes `model.xml` and `model.bin` with fp32 weights; the engine's precision hint does the rest."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        write_openvino(export_onnx(source).read_bytes(), directory)


def write_openvino(data: bytes, directory: Path) -> None:
    """Write `model.xml` and `model.bin` of the serialised ONNX model, the same bytes each time.

    Raises LnmtError where OpenVINO cannot read it, OSError where the disk is full.
    """
    try:
        model = openvino.Core().read_model(data)
        _name_by_place(model)
    except RuntimeError as error:
        raise LnmtError(
            f"OpenVINO cannot read the graph: {error}",
            where=directory,
            fix="drop openvino from optimize.engines, or the compression from optimize.compressions",
        ) from error
    try:
        openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)
    except RuntimeError as error:
        # "iostream error" is all that it says, of a full disk too
        if shutil.disk_usage(directory).free < 2 * len(data) + ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory)) from error
        raise LnmtError(
            f"OpenVINO cannot write the model: {error}", where=directory, fix="look after this disk, then try again"
        ) from error


def _name_by_place(model: Any) -> None:
    """Give operators without a name of their own one by their place in the graph.

    OpenVINO numbers them by all that this process has ever made (`Constant_1942`), so that the same graph, read twice,
    would be two files.
    """
    for place, operator in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{operator.get_type_name()}_\d+", operator.get_friendly_name()):
            operator.set_friendly_name(f"{operator.get_type_name()}.{place}")
