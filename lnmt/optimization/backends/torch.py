"""PyTorch's engines run the weights as they are: casting, tracing and compiling are done when they are loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnmt.models import WEIGHTS
from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate


class TorchBackend:
    """Copies the weights."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        shutil.copyfile(source.bundle.file(WEIGHTS), directory / WEIGHTS)
