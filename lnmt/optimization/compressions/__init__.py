"""Compressions by name: what makes a model cheaper, alone or one after the other.

There are two forms. `weights`: the PyTorch model becomes another PyTorch model, before any engine's files are made
(pruning, distillation, low rank, training for 8 bits). `graph`: the exported graph becomes one with 8-bit products, for
the engines that can run it; it comes last, and once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lnmt.plugins.table import Table

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.optimization.workshop import Workshop
    from lnmt.progress import Progress
    from lnmt.types import Batch


class WeightCompression(ABC):
    """Changes the model itself. Its options are the keywords of its constructor.

    @register_compression("my-compression")
    class MyCompression(WeightCompression): ...
    """

    form: ClassVar[Literal["weights"]] = "weights"

    @abstractmethod
    def compress(self, model: BaseModel, shop: Workshop) -> BaseModel:
        """A cheaper model from `model`, which may be changed. Its `config` describes it (`lnmt.models.structure`).

        Raises LnmtError where this model cannot be compressed so.
        """

    def decided(self) -> dict[str, Any]:
        """What `compress` decided on the way (ranks, layers kept, figures), as JSON values for the bundle."""
        return {}


class GraphCompression(ABC):
    """Changes the exported ONNX graph, for one engine. Its options are the keywords of its constructor."""

    form: ClassVar[Literal["graph"]] = "graph"
    engines: ClassVar[tuple[str, ...]] = ()  # those that run what it makes

    @abstractmethod
    def compress(
        self, graph: Path, engine: str, directory: Path, calibration: Callable[[], Sequence[Batch]], progress: Progress
    ) -> None:
        """Write the files that `engine` loads (`model.onnx`; of OpenVINO `model.xml`, `model.bin`) into `directory`.

        `calibration` gives padded batches of the train split. Raises LnmtError where this graph cannot be
        compressed so, or there is nothing to calibrate on.
        """

    def decided(self) -> dict[str, Any]:
        """What `compress` decided on the way, as JSON values for the bundle."""
        return {}


Compression = WeightCompression | GraphCompression

COMPRESSIONS: Table[type[Compression]] = Table(
    "compression",
    {
        "dynamic_int8": "lnmt.optimization.compressions.dynamic_int8:DynamicInt8",
        "static_int8": "lnmt.optimization.compressions.static_int8:StaticInt8",
        "weight_int8": "lnmt.optimization.compressions.weight_int8:WeightInt8",
        "qat": "lnmt.optimization.compressions.qat:QuantisationAware",
        "prune_weights": "lnmt.optimization.compressions.prune_weights:PruneWeights",
        "prune_heads": "lnmt.optimization.compressions.prune_heads:PruneHeads",
        "drop_layers": "lnmt.optimization.compressions.drop_layers:DropLayers",
        "distil": "lnmt.optimization.compressions.distil:Distil",
        "low_rank": "lnmt.optimization.compressions.low_rank:LowRank",
        "trim_vocabulary": "lnmt.optimization.compressions.trim_vocabulary:TrimVocabulary",
    },
)
