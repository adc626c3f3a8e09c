"""PyTorch, eager: the reference that every other engine is held against.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from pathlib import Path

import torch

from lnmt.bundles import Bundle
from lnmt.models import load_model
from lnmt.models.base import BaseModel
from lnmt.models.calls import call_model
from lnmt.runtime.capabilities import available_cores
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.types import Batch, Output

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs `model.safetensors`. Threads are PyTorch's own, which a whole process shares: the last load sets them."""

    def __init__(self) -> None:
        self._model: BaseModel | None = None

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        torch.set_num_threads(threads or available_cores())
        # bf16 weights, not autocast: autocast casts them anew at every call and is slower than fp32 at batch 1.
        self._model = load_model(bundle).to(DTYPES[bundle.manifest.precision]).eval()

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        assert self._model is not None, "load first"
        task = self._model.task
        inputs = {
            "input_ids": torch.from_numpy(batch.input_ids),
            "attention_mask": torch.from_numpy(batch.attention_mask),
        }
        with explained("torch", batch), torch.inference_mode():
            logits, pooled = call_model(self._model, inputs, task)
        return checked_output("torch", batch, logits.float().numpy(), pooled.float().numpy(), task)

    def close(self) -> None:
        self._model = None
