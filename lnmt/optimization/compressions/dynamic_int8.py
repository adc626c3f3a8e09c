"""Dynamic 8 bits: int8 weights, activations scaled as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from lnmt.optimization.compressions import GraphCompression
from lnmt.optimization.compressions.int8_products import load_graph
from lnmt.progress import Progress
from lnmt.types import Batch


class DynamicInt8(GraphCompression):
    """ONNX Runtime's dynamic quantisation of products with constant weights, a scale for each output channel.

    It needs no calibration. One scale is for a whole batch, so that a row's answer depends a little on its neighbours.
    """

    engines: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    def compress(
        self, graph: Path, engine: str, directory: Path, calibration: Callable[[], Sequence[Batch]], progress: Progress
    ) -> None:
        from lnmt.optimization.backends.onnxruntime_int8 import quantize_as_they_come

        quantize_as_they_come(load_graph(graph), directory / "model.onnx")
