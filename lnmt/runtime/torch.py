"""PyTorch, eager: the reference that every other engine is held against.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lnmt.models.base import BaseModel
from lnmt.models.calls import call_model
from lnmt.runtime.torch_weights import Forward, TorchWeights


class TorchEngine(TorchWeights):
    """Runs the model's own `forward`, operator by operator."""

    name = "torch"

    def prepare(self, model: BaseModel, cache: Path | None) -> Forward:
        task = model.task

        def forward(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
            return call_model(model, {"input_ids": input_ids, "attention_mask": attention_mask}, task)

        return forward
