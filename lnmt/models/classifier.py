"""A pretrained encoder with a linear head: over the pooled text, or over each token.

Legend: B = rows, T = tokens, C = labels, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lnmt.models.base import BaseModel, Inputs, ModelSetup, Outputs
from lnmt.models.encoders import build_encoder, checkpoint_blocks, load_encoder
from lnmt.models.layers import layers_of
from lnmt.models.parts import check_share, mean_pool
from lnmt.models.pretrained import pretrained, read_config
from lnmt.types import Task


class EncoderModel(BaseModel):
    """The encoder, dropout and head that both families share.

    `config["config"]` is the encoder's own configuration, `config["dropout"]` the share dropped before the head.
    """

    options: ClassVar[Mapping[str, Any]] = {"dropout": 0.1}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.encoder = build_encoder(self.config["config"])
        self.dropout = nn.Dropout(check_share(self.config.get("dropout")))
        self.head = nn.Linear(_width(self.encoder), self.outputs)

    @classmethod
    def configure(cls, setup: ModelSetup) -> dict[str, Any]:
        return {**super().configure(setup), "config": read_config(setup)}

    def initialise(self, setup: ModelSetup) -> None:
        nn.init.normal_(self.head.weight, std=float(self.config["config"].get("initializer_range", 0.02)))
        nn.init.zeros_(self.head.bias)
        load_encoder(self.encoder, pretrained(setup) / "model.safetensors")

    def states(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The encoder's states [B, T, H], and their mean over each row's tokens, padding left out: [B, H].

        Mean pooling is what sentence encoders are trained with: Reimers & Gurevych, Sentence-BERT, 2019.
        """
        states = self.encoder(inputs["input_ids"], inputs["attention_mask"])
        return states, mean_pool(states, inputs["attention_mask"])

    def layers(self) -> list[list[str]]:
        return layers_of([name for name, _ in self.named_parameters()], heads=["head."])

    def enable_gradient_checkpointing(self) -> None:
        checkpoint_blocks(self.encoder)


class EncoderClassifier(EncoderModel):
    """Mean of the token states, dropout, linear head: one label a text, several, or a number."""

    tasks = ("text-classification", "multi-label-classification", "text-regression")

    def forward(self, inputs: Inputs) -> Outputs:
        _, pooled = self.states(inputs)
        return Outputs(self.in_units(self.head(self.dropout(pooled))), pooled)  # [B, C], [B, H]


class TokenClassifier(EncoderModel):
    """Dropout and a linear head over each token's state (Devlin et al., BERT, 2019, §5.3)."""

    tasks: ClassVar[tuple[Task, ...]] = ("token-classification",)

    def forward(self, inputs: Inputs) -> Outputs:
        states, pooled = self.states(inputs)
        return Outputs(self.head(self.dropout(states)), pooled)  # [B, T, C], [B, H]


def _width(encoder: nn.Module) -> int:
    """H: every family ends its blocks with a norm of that width. What config.json calls it differs, or is left out."""
    return [module.normalized_shape[0] for module in encoder.modules() if isinstance(module, nn.LayerNorm)][-1]
