"""8-bit weights, products in floats: a quarter of the size, answers that hardly move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from lnmt.optimization.compressions import GraphCompression
from lnmt.optimization.compressions.int8_files import write_graph
from lnmt.optimization.compressions.int8_products import find_groups, load_graph
from lnmt.optimization.compressions.int8_weights import with_dequantised, with_int8_tables
from lnmt.progress import Progress
from lnmt.types import Batch


class WeightInt8(GraphCompression):
    """Matrices and embedding tables in int8, symmetric; nothing else is rounded, so that there is nothing to calibrate.

    embeddings: tables too, with a scale for each row. In a small encoder they are most of the weights.
    """

    engines: ClassVar[tuple[str, ...]] = ("onnxruntime", "openvino")

    def __init__(self, embeddings: bool = True) -> None:
        self._embeddings = embeddings

    def compress(
        self, graph: Path, engine: str, directory: Path, calibration: Callable[[], Sequence[Batch]], progress: Progress
    ) -> None:
        model = load_graph(graph)
        made = with_dequantised(model, find_groups(model))
        write_graph(with_int8_tables(made) if self._embeddings else made, engine, directory)
