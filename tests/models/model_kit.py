"""Inputs, and a tiny GPT-2 as a hub gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lnmt.models.base import Inputs
from tests.tiny_bundle import PIECES


def inputs_of(*rows: list[int]) -> Inputs:
    """Rows of token ids, padded on the right."""
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }


def hugging_face_gpt2(**changes: Any) -> nn.Module:
    """Hugging Face's GPT-2, 2 layers, 32 wide, 24 positions; weights large enough that tokens matter."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = len(PIECES)
    settings = {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 2, "eos_token_id": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = GPT2LMHeadModel(GPT2Config(vocab_size=size, **settings | changes))
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, mean=float("ln_" in name and name.endswith("weight")), std=0.3)
    return model.eval()


def save_gpt2(model: Any, directory: Path, prefix: str = "transformer.") -> Path:
    """A directory as a hub gives it; the published files hold the causal masks as well."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {
        f"{prefix}{name}": tensor.contiguous() for name, tensor in model.transformer.state_dict().items()
    }
    tensors[f"{prefix}h.0.attn.bias"] = torch.ones(1, 1, 24, 24)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(model.config.to_dict()), encoding="utf-8")
    return directory
