"""Back ends by engine: each turns the reference bundle into the files that its engine runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lnmt.bundles import Bundle
from lnmt.optimization.candidate import Candidate
from lnmt.plugins.table import Table
from lnmt.progress import Progress


@dataclass(frozen=True)
class Source:
    """What a candidate is built from."""

    bundle: Bundle  # the reference: torch, fp32
    work: Path  # for files that several back ends share
    graph: Path | None = None  # the exported graph after a compression; None: it is exported
    cache: Path | None = None  # of the machine: what builds measured, for later ones; None: nothing is kept
    progress: Progress = field(default_factory=lambda: Progress(show=False))


class Backend(Protocol):
    """One engine's conversion."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        """Write the candidate's model files into `directory`. Raises LnmtError with the reason where it cannot."""


BACKENDS: Table[type[Backend]] = Table(
    "optimization engine",
    {
        "torch": "lnmt.optimization.backends.torch:TorchBackend",
        "torch_compile": "lnmt.optimization.backends.torch:TorchBackend",
        "torchscript": "lnmt.optimization.backends.torch:TorchBackend",
        "onnxruntime": "lnmt.optimization.backends.onnxruntime:OnnxRuntimeBackend",
        "openvino": "lnmt.optimization.backends.openvino:OpenVinoBackend",
        "tensorrt": "lnmt.optimization.backends.tensorrt:TensorRtBackend",
        "tensorrt_rtx": "lnmt.optimization.backends.tensorrt:TensorRtRtxBackend",
    },
)
