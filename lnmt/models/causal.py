"""A pretrained causal language model: each token predicts the next.

Legend: B = rows, T = tokens, V = vocabulary, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from lnmt.models.base import BaseModel, Inputs, ModelSetup, Outputs
from lnmt.models.gpt2 import Gpt2, load_gpt2
from lnmt.models.layers import layers_of
from lnmt.models.parts import check_share, mean_pool
from lnmt.models.pretrained import pretrained, read_config
from lnmt.types import Task

DROPOUTS = ("attn_pdrop", "embd_pdrop", "resid_pdrop")


class CausalLM(BaseModel):
    """GPT-2 with its embedding as the output layer; stored once.

    `config["config"]` is the model's own configuration. The option `dropout` replaces its shares; null keeps them.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("text-generation",)
    options: ClassVar[Mapping[str, Any]] = {"dropout": None}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        settings, share = dict(self.config["config"]), self.config.get("dropout")
        if share is not None:
            settings |= dict.fromkeys(DROPOUTS, check_share(share))
        self.transformer = Gpt2(settings)

    @classmethod
    def configure(cls, setup: ModelSetup) -> dict[str, Any]:
        return {**super().configure(setup), "config": read_config(setup)}

    def initialise(self, setup: ModelSetup) -> None:
        load_gpt2(self.transformer, pretrained(setup) / "model.safetensors")

    def forward(self, inputs: Inputs) -> Outputs:
        states = self.transformer(inputs["input_ids"])
        return Outputs(self.predict_next(states), mean_pool(states, inputs["attention_mask"]))

    def predict_next(self, states: Tensor) -> Tensor:
        """Logits [..., V] of the token after each of the states [..., H]."""
        return functional.linear(states, self.transformer.wte.weight)

    def layers(self) -> list[list[str]]:
        return layers_of([name for name, _ in self.named_parameters()], heads=[])

    def heads(self) -> list[str]:
        return []  # nothing in it is fresh

    def enable_gradient_checkpointing(self) -> None:
        self.transformer.checkpointing = True
