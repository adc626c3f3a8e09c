"""GPT-2, lean: the layers of Radford et al., Language Models are Unsupervised Multitask Learners, 2019.

Parameters are called as in Hugging Face's files; its Conv1D weights stand transposed there, and are turned on loading.
Legend: B = rows, T = new tokens, P = tokens before them, H = hidden width, N = heads, D = H / N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.pretrained import GPT2_POSITIONS, read_weights

_tanh_gelu = partial(functional.gelu, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}
# Of transformers' GPT2Config: what a config.json may leave out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": GPT2_POSITIONS,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")  # Conv1D: [inputs, outputs] in the file
PREFIXES = ("", "transformer.")  # of the bare model's file, and of the one with a head


class KeyValues:
    """One layer's keys and values [B, N, P, D] of the tokens so far, so that a next token costs one token."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor] | None = None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, those of the new tokens last."""
        if self._kept is not None:
            key, value = torch.cat([self._kept[0], key], dim=2), torch.cat([self._kept[1], value], dim=2)
        self._kept = (key, value)
        return self._kept

    def __len__(self) -> int:
        return 0 if self._kept is None else self._kept[0].shape[2]


class Attention(nn.Module):
    """Each token looks at itself and those before it."""

    def __init__(self, config: Mapping[str, Any], place: int) -> None:
        super().__init__()
        width = int(config["n_embd"])
        self.heads = int(config["n_head"])
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.attn_pdrop = float(config["attn_pdrop"])
        self.resid_dropout = nn.Dropout(float(config["resid_pdrop"]))
        self.scale = (width // self.heads) ** -0.5 if config["scale_attn_weights"] else 1.0
        if config["scale_attn_by_inverse_layer_idx"]:
            self.scale /= place + 1

    def forward(self, states: Tensor, past: KeyValues | None) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, N, T, D]
            for part in self.c_attn(states).chunk(3, dim=2)
        )
        causal = True
        if past is not None:
            key, value = past.extend(key, value)
            causal = key.shape[2] == states.shape[1]  # later tokens come one by one, and see all
        # No mask for padding: it stands on the right, where no token looks.
        mixed = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.attn_pdrop if self.training else 0.0, is_causal=causal, scale=self.scale
        )
        found: Tensor = self.resid_dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))
        return found


class FeedForward(nn.Module):
    """The two linear layers after attention."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = int(config["n_embd"])
        inner = int(config["n_inner"] or 4 * width)
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)
        name = str(config["activation_function"])
        if name not in ACTIVATIONS:
            raise UnknownName("activation function", name, ACTIVATIONS, where="activation_function of config.json")
        self.activation = ACTIVATIONS[name]
        self.dropout = nn.Dropout(float(config["resid_pdrop"]))

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.dropout(self.c_proj(self.activation(self.c_fc(states))))
        return found


class Block(nn.Module):
    """Attention and feed-forward, each added to what it read, normalised before."""

    def __init__(self, config: Mapping[str, Any], place: int) -> None:
        super().__init__()
        width, epsilon = int(config["n_embd"]), float(config["layer_norm_epsilon"])
        self.ln_1 = nn.LayerNorm(width, eps=epsilon)
        self.attn = Attention(config, place)
        self.ln_2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = FeedForward(config)

    def forward(self, states: Tensor, past: KeyValues | None = None) -> Tensor:
        states = states + self.attn(self.ln_1(states), past)
        found: Tensor = states + self.mlp(self.ln_2(states))
        return found


class Gpt2(nn.Module):
    """Token ids → states, by a config.json. Its weights are not drawn: `load_gpt2` or a state dict follows."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = {**DEFAULTS, **config}
        if config.get("model_type") != "gpt2":
            raise UnknownName(
                "causal model family", str(config.get("model_type")), ["gpt2"], where="model_type of config.json"
            )
        if not config["tie_word_embeddings"]:
            raise LnmtError(
                "a GPT-2 with an output layer of its own is not supported",
                where="config.json",
                value="tie_word_embeddings: false",
                allowed="true, as in the published models",
                fix="use a model whose output layer is its embedding",
            )
        width = int(config["n_embd"])
        self.positions = int(config["n_positions"])
        self.checkpointing = False
        with torch.device("meta"):
            self.wte = nn.Embedding(int(config["vocab_size"]), width)
            self.wpe = nn.Embedding(self.positions, width)
            self.drop = nn.Dropout(float(config["embd_pdrop"]))
            self.h = nn.ModuleList(Block(config, place) for place in range(int(config["n_layer"])))
            self.ln_f = nn.LayerNorm(width, eps=float(config["layer_norm_epsilon"]))
        self.to_empty(device="cpu")

    def new_cache(self) -> list[KeyValues]:
        """What `forward` keeps between calls on the same rows."""
        return [KeyValues() for _ in self.h]

    def forward(self, input_ids: Tensor, past: Sequence[KeyValues] | None = None) -> Tensor:
        """[B, T] → the last states [B, T, H], normalised. Right padding reaches no other token.

        With `past` the tokens follow those of the calls before; after the first call they come one at a time.
        """
        before = len(past[0]) if past else 0
        places = torch.arange(before, before + input_ids.shape[1], device=input_ids.device)
        states: Tensor = self.drop(self.wte(input_ids) + self.wpe(places))
        for place, block in enumerate(self.h):
            if past is not None:
                states = block(states, past[place])
            elif self.checkpointing and self.training:
                states = checkpoint(block, states, use_reentrant=False)
            else:
                states = block(states)
        found: Tensor = self.ln_f(states)
        return found


def load_gpt2(model: Gpt2, path: Path) -> None:
    """Fill `model` from a file of Hugging Face's, with or without a head. Raises LnmtError where they do not fit."""
    stored, wanted = read_weights(path), model.state_dict()
    prefix = next((p for p in PREFIXES if all(p + name in stored for name in wanted)), None)
    if prefix is None:
        missing = sorted(name for name in wanted if not any(p + name in stored for p in PREFIXES))
        raise LnmtError(
            f"the model's weights lack {len(missing)} of {len(wanted)} tensors",
            where=path,
            value=", ".join(missing[:3]),
            fix="use a GPT-2 checkpoint whose weights fit its config.json",
        )
    chosen = {name: stored[prefix + name].to(torch.float32) for name in wanted}
    chosen = {name: tensor.t() if name.endswith(TURNED) else tensor for name, tensor in chosen.items()}
    for name, tensor in wanted.items():
        if tensor.shape != chosen[name].shape:
            raise LnmtError(
                "the model's weights do not fit its config.json",
                where=path,
                value=f"{name}: {list(chosen[name].shape)}",
                allowed=str(list(tensor.shape)),
                fix="use a checkpoint whose weights fit its config.json",
            )
    model.load_state_dict(chosen)
