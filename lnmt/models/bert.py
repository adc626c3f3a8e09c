"""BERT's encoder (Devlin et al., BERT, 2019), with the parameter names of Hugging Face's checkpoints.

In training on a CPU it works on the texts' tokens alone: padding is cut out before the first layer and put back
for attention, whose cost is small on short texts. Under autocast the states between the layers keep the low
precision, so that nothing is converted to and fro; norms and softmax compute in fp32 inside.

Legend: B = rows, T = tokens, N = tokens that are not padding, H = hidden width. States are [N, H] where they are
packed, else [B, T, H].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lnmt.models.attention import LONGEST, Packing, attend, pack
from lnmt.models.dropout import drop, drop_add

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}

# Of transformers' BertConfig: what a config.json may leave out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether `BertEncoder` computes what this config.json of the family `bert` asks for."""
    return (
        config.get("hidden_act", "gelu") in ACTIVATIONS
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


class Embeddings(nn.Module):
    """The sum of a word's, a position's and a type's embedding, normed."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width, padding_idx=config["pad_token_id"])
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
        self.dropout = float(config["hidden_dropout_prob"])

    def forward(self, words: Tensor, positions: Tensor) -> Tensor:
        """[N] int64 twice, or [B, T] and [T] → states. Every token is of type 0: there is one text a row."""
        states = self.word_embeddings(words) + self.position_embeddings(positions)
        states = self.LayerNorm(states + self.token_type_embeddings.weight[0])
        return drop(states, self.dropout) if self.training else states


class SelfAttention(nn.Module):
    """Multi-head attention of a text's tokens to each other, without its output layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.heads = int(config["num_attention_heads"])
        self.dropout = float(config["attention_probs_dropout_prob"])

    def forward(self, states: Tensor, layout: Packing | Tensor) -> Tensor:
        """States → states. `layout`: their packing, or what is added to the scores [B, 1, T, T]."""
        dropout = self.dropout if self.training else 0.0
        layers = (self.query, self.key, self.value)
        if isinstance(layout, Packing):
            return attend(_together(states, layers), layout, self.heads, dropout)
        query, key, value = (layer(states).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=layout, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)


def _together(states: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """[N, H] through each layer, beside each other: one product, unless something (LoRA, pruning) hangs on a layer."""
    if all(type(one) is nn.Linear and not one._forward_hooks and not one._forward_pre_hooks for one in layers):
        weight = torch.cat([layer.weight for layer in layers])
        return functional.linear(states, weight, torch.cat([layer.bias for layer in layers]))
    return torch.cat([layer(states) for layer in layers], dim=-1)


class AddNorm(nn.Module):
    """A linear layer, dropout, the residual, and the norm."""

    def __init__(self, inputs: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = float(config["hidden_dropout_prob"])

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        added: Tensor = self.LayerNorm(drop_add(self.dense(states), residual, self.dropout if self.training else 0.0))
        return added.to(residual.dtype)  # under CUDA's autocast a norm gives fp32


class Layer(nn.Module):
    """Attention, then the wide inner layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": AddNorm(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = AddNorm(inner, config)
        self.activation = ACTIVATIONS[config["hidden_act"]]

    def forward(self, states: Tensor, layout: Packing | Tensor) -> Tensor:
        """States → states."""
        states = self.attention["output"](self.attention["self"](states, layout), states)
        inner = self.activation(self.intermediate["dense"](states))
        added: Tensor = self.output(inner, states)
        return added


class BertEncoder(nn.Module):
    """(input_ids, attention_mask) [B, T] int64 → states [B, T, H]. No pooler; every token is of type 0.

    Its parameters are empty memory: a state dict follows.
    """

    base_model_prefix = "bert"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = {**DEFAULTS, **config}
        with torch.device("meta"):  # drawing numbers first would cost seconds on a large encoder
            self.embeddings = Embeddings(config)
            self.encoder = nn.ModuleDict(
                {"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))}
            )
        self.to_empty(device="cpu")
        self.checkpointing = False

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        rows, tokens = input_ids.shape
        words, positions = input_ids, torch.arange(tokens, device=input_ids.device)
        packed: Packing | None = None
        # A compiler or an exporter wants plain operators, and shapes that no number in a tensor decides.
        if self.training and input_ids.device.type == "cpu" and tokens <= LONGEST and not torch.compiler.is_compiling():
            packed = pack(attention_mask)
            words, positions = input_ids.flatten()[packed.kept], packed.kept % tokens
        states: Tensor = self.embeddings(words, positions)
        if torch.is_autocast_enabled(states.device.type):
            states = states.to(torch.get_autocast_dtype(states.device.type))
        layout = packed or _bias(attention_mask, states.dtype)
        for layer in self.encoder.get_submodule("layer").children():
            if self.checkpointing and self.training:
                states = checkpoint(layer, states, layout, use_reentrant=False)
            else:
                states = layer(states, layout)
        if packed is None:
            return states
        padded = states.new_zeros(rows * tokens, states.shape[1]).index_copy(0, packed.kept, states)
        return padded.view(rows, tokens, -1)


def _bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, T], 1 for a token → [B, 1, T, T] to add to scores; finite, so that a row of padding gives no NaN."""
    rows, tokens = attention_mask.shape
    bias = (1.0 - attention_mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min
    return bias.expand(rows, 1, tokens, tokens)
