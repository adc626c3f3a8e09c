"""A pretrained encoder, mean pooling, and a linear head.

Legend: B = rows, T = tokens, C = labels, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.initialization import no_init_weights

from lnmt.errors import LnmtError, UnknownName
from lnmt.files import read_json
from lnmt.models.base import BaseModel
from lnmt.params import TrainParams

# Encoders that take (input_ids, attention_mask) alone and give one hidden state per token.
FAMILIES = ("bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")

_from_config: Callable[..., nn.Module] = AutoModel.from_config  # it ships no types

# Of no meaning to the architecture, or of another time and place.
NOISE = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version")


class EncoderClassifier(BaseModel):
    """Mean of the encoder's token states (padding left out), dropout, linear head.

    Mean pooling is what sentence encoders are trained with: Reimers & Gurevych, Sentence-BERT, 2019.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config`: {"config": the encoder's own, "dropout": share, "classes": C}."""
        super().__init__(config)
        encoder_config = dict(self.config["config"])
        family = str(encoder_config.pop("model_type", None))
        if family not in FAMILIES:
            raise UnknownName("encoder family", family, FAMILIES, where="model_type of the encoder's config.json")
        settings = AutoConfig.for_model(family, **encoder_config)
        with no_init_weights():  # a state dict follows; drawing numbers first would cost seconds on a large encoder
            self.encoder = _from_config(settings, attn_implementation="sdpa")
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.register_module("pooler", None)  # mean pooling stands in its place
        self.dropout = nn.Dropout(float(self.config["dropout"]))
        self.head = nn.Linear(settings.hidden_size, self.classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, T, H]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)  # [B, T, 1]
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)  # [B, H]
        return self.head(self.dropout(pooled)), pooled

    @classmethod
    def from_encoder(cls, params: TrainParams, classes: int, encoder: Path) -> Self:
        config = {k: v for k, v in _read(encoder / "config.json").items() if k not in NOISE}
        positions = config.get("max_position_embeddings")
        if isinstance(positions, int) and params.max_tokens > positions:
            raise LnmtError(
                "texts would be longer than the encoder has positions",
                where="params.yaml: train.max_tokens",
                value=params.max_tokens,
                allowed=f"at most {positions}",
                fix="lower it, or take an encoder for longer texts",
            )
        model = cls({"config": config, "dropout": params.dropout, "classes": classes})
        nn.init.normal_(model.head.weight, std=float(config.get("initializer_range", 0.02)))
        nn.init.zeros_(model.head.bias)
        _load_encoder(model.encoder, encoder / "model.safetensors")
        return model


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    """Fill `encoder` from a checkpoint of it, or of a model that has it inside (`bert.…`)."""
    if not path.is_file():
        raise LnmtError("the encoder has no model.safetensors", where=path, fix="use one with safetensors weights")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise LnmtError(
            f"model.safetensors cannot be read: {error}", where=path, fix="delete the cached copy and fetch it again"
        ) from error
    wanted = encoder.state_dict()
    prefixes = ("", f"{getattr(encoder, 'base_model_prefix', '')}.")
    prefix = next((p for p in prefixes if all(p + name in stored for name in wanted)), None)
    if prefix is None:
        missing = sorted(wanted.keys() - stored.keys())
        raise LnmtError(
            f"the encoder's weights lack {len(missing)} of {len(wanted)} tensors",
            where=path,
            value=", ".join(missing[:3]),
            fix="use a checkpoint whose weights fit its config.json",
        )
    chosen = {name: stored[prefix + name].to(torch.float32) for name in wanted}
    shapes = [name for name, tensor in wanted.items() if tensor.shape != chosen[name].shape]
    if shapes:
        raise LnmtError(
            "the encoder's weights do not fit its config.json",
            where=path,
            value=f"{shapes[0]}: {list(chosen[shapes[0]].shape)}",
            allowed=str(list(wanted[shapes[0]].shape)),
            fix="use a checkpoint whose weights fit its config.json",
        )
    encoder.load_state_dict(chosen)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise LnmtError("the encoder has no config.json", where=path, fix="name a directory of an encoder")
    try:
        config = read_json(path)
    except ValueError as error:
        raise LnmtError(f"config.json is not JSON: {error}", where=path, fix="fetch the encoder again") from error
    if not isinstance(config, dict):
        raise LnmtError("config.json is not an object", where=path, fix="fetch the encoder again")
    return config
