"""torch.compile: the model's graph as C++ that TorchInductor writes and a compiler on this machine builds.

Weights are frozen: they become constants of the graph, so that products get them packed once and for all. Sizes stay
symbols: one graph for single rows and one for batches, both made by `warm_up`, none of them while a server answers.
That takes a minute or two, and seconds where `cache` has it. Figures are in docs/log.md.

Source: https://docs.pytorch.org/tutorials/recipes/inference_tuning_on_aws_graviton.html (freezing),
https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_tutorial.html

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lnmt.files import canonical_json, sha256_bytes
from lnmt.models.base import BaseModel
from lnmt.runtime.cpu import this_cpu
from lnmt.runtime.engine import warm_up_batch
from lnmt.runtime.torch_weights import ByPlace, Forward, TorchWeights
from lnmt.types import Batch

CACHE = "TORCHINDUCTOR_CACHE_DIR"  # read by TorchInductor whenever it compiles


class TorchCompileEngine(TorchWeights):
    """Compiles the model's own `forward`. Needs a C++ compiler (g++ or clang++) wherever it loads."""

    name = "torch_compile"

    def prepare(self, model: BaseModel, cache: Path | None) -> Forward:
        directory = None if cache is None else self._directory(cache)
        if directory is not None:
            os.environ[CACHE] = str(directory)
        compiled = torch.compile(ByPlace(model), dynamic=True, options={"freezing": True})

        def forward(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
            logits, pooled = compiled(input_ids, attention_mask)
            return logits, pooled

        return forward

    def warm_up(self) -> None:
        width = min(16, self._bundle.manifest.max_tokens)
        one = warm_up_batch(width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns of parts of torch itself that it still uses
            # A size of 1 has a graph of its own; other sizes after the first make the tokens a symbol in both.
            for rows, tokens in ((1, width), (2, width), (1, max(1, width // 2)), (3, max(1, width // 2))):
                ids, mask = (np.repeat(part[:, :tokens], rows, axis=0) for part in (one.input_ids, one.attention_mask))
                self.infer(Batch(ids, mask))

    def _directory(self, cache: Path) -> Path | None:
        """One for each bundle, release of torch and CPU; None where nothing can be written there."""
        key = {
            "bundle": self._bundle.digest,
            "torch": torch.__version__,
            "cpu": sorted(this_cpu().all_flags),
        }
        directory = cache / self.name / sha256_bytes(canonical_json(key)).removeprefix("sha256:")[:16]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = directory / f".{os.getpid()}"
            probe.write_bytes(bytes(4096))
            probe.unlink()
        except OSError:
            return None
        return directory
