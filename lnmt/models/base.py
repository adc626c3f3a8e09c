"""What every architecture offers to training, export and the engines.

Legend: B = rows, T = tokens, C = labels, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models.tensors import write_tensors
from lnmt.params import TrainParams


@dataclass(frozen=True)
class TrainingBatch:
    """One padded batch with its labels."""

    input_ids: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] int64, 1 for a token, 0 for padding
    labels: Tensor  # [B] int64 in 0…C-1


class BaseModel(nn.Module):
    """A text classifier. Plugins subclass it and register: `@lnmt.models.MODELS.register("name")`.

    `config` holds JSON values alone: it travels in `bundle.json`, and `type(model)(model.config)`
    must build the same architecture again. `config["classes"]` is the number of labels.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        if not isinstance(self.config.get("classes"), int):
            raise LnmtError(
                "a model's configuration must tell its number of labels",
                where=type(self).__name__,
                value=self.config.get("classes"),
                allowed="classes: an integer",
                fix="pass the configuration of bundle.json",
            )

    @property
    def classes(self) -> int:
        """C, the number of labels."""
        return int(self.config["classes"])

    @classmethod
    def from_encoder(cls, params: TrainParams, classes: int, encoder: Path) -> Self:
        """A fresh model on the pretrained weights in the directory `encoder`."""
        raise LnmtError(
            f"model {params.model!r} cannot be trained: it has no `from_encoder`",
            where=f"{cls.__module__}.{cls.__qualname__}",
            fix="give the class a classmethod from_encoder(params, classes, encoder)",
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] int64 twice → logits [B, C] and pooled states [B, H], floats."""
        raise LnmtError(
            "a model needs a forward method",
            where=f"{type(self).__module__}.{type(self).__qualname__}",
            fix="define forward(input_ids, attention_mask) -> (logits, pooled)",
        )

    def training_step(self, batch: TrainingBatch) -> Tensor:
        """The mean loss of a batch, a scalar: cross-entropy, unless a plugin knows better."""
        logits, _ = self(batch.input_ids, batch.attention_mask)
        return nn.functional.cross_entropy(logits.float(), batch.labels)

    def describe(self, name: str) -> dict[str, Any]:
        """What `bundle.json: model` holds."""
        return {"name": name, **self.config}

    def save(self, path: Path) -> None:
        """Write the weights as safetensors; the same weights give the same bytes."""
        write_tensors(path, {name: tensor.to("cpu", torch.float32) for name, tensor in self.state_dict().items()})
