"""A small transformer encoder that starts from nothing: the encoder of params.yaml gives it its tokenizer alone.

Legend: B = rows, T = tokens, H = width, C = labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnmt.core import BaseModel, Inputs, Outputs, TrainingBatch
from lnmt.plugins import register_model


class Block(nn.Module):
    """Attention and a feed-forward part, each after a norm and beside a short cut (Xiong et al., 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.second = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        """States [B, T, H] → [B, T, H]; `seen` [B, 1, T, T] is False where the key is padding."""
        rows, tokens, width = states.shape
        mixed = self.attention(self.first(states)).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        states = states + self.dropout(self.merge(found.transpose(1, 2).reshape(rows, tokens, width)))
        changed: Tensor = states + self.dropout(self.feed_forward(self.second(states)))
        return changed


@register_model("my-custom-transformer")
class CustomTransformer(BaseModel):
    """Embeddings, blocks, the mean over each row's tokens, a linear head."""

    tasks = ("text-classification", "multi-label-classification", "text-regression")
    options: ClassVar[Mapping[str, Any]] = {"width": 64, "blocks": 2, "heads": 4, "dropout": 0.1}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        width = int(config["width"])
        self.tokens = nn.Embedding(int(config["vocabulary"]), width, padding_idx=int(config["pad_id"]))
        self.places = nn.Embedding(int(config["max_tokens"]), width)
        self.blocks = nn.ModuleList(
            Block(width, int(config["heads"]), float(config["dropout"])) for _ in range(int(config["blocks"]))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.outputs)  # C, or 1 for regression

    def forward(self, inputs: Inputs) -> Outputs:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        states = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        # For each query, though all are alike: ONNX Runtime's attention does not broadcast a mask of one.
        seen = (mask > 0)[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        for block in self.blocks:
            states = block(states, seen)
        weights = mask[:, :, None].to(states.dtype)
        pooled = (self.norm(states) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return Outputs(self.in_units(self.head(pooled)), pooled)

    def training_step(self, batch: TrainingBatch) -> Tensor:
        logits, _ = self(batch.inputs)
        return self.loss(logits, batch.labels)
