"""Pretrained encoders by family.

Legend: B = rows, T = tokens, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.bert import BertEncoder, is_plain
from lnmt.models.pretrained import read_weights

# Encoders that take (input_ids, attention_mask) alone and give one hidden state per token.
FAMILIES = ("bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")


def build_encoder(config: Mapping[str, Any]) -> nn.Module:
    """The encoder of a config.json: (input_ids, attention_mask) [B, T] int64 → states [B, T, H].

    BERT is our own (`lnmt.models.bert`), which trains faster; the other families are transformers'. Their
    parameters are empty memory, and named as in Hugging Face's checkpoints. Raises UnknownName for another family.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise UnknownName("encoder family", family, FAMILIES, where="model_type of the encoder's config.json")
    return BertEncoder(config) if family == "bert" and is_plain(config) else _of_transformers(family, config)


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Fill `encoder` from a checkpoint of it, or of a model that has it inside (`bert.…`).

    Raises LnmtError where the file lacks, cannot be read, or does not fit.
    """
    stored = read_weights(path)
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


def checkpoint_blocks(encoder: nn.Module) -> None:
    """Let an encoder of `build_encoder` compute its blocks' insides again on the way back: less memory, more time.

    Raises LnmtError where the family cannot.
    """
    if isinstance(encoder, BertEncoder):
        encoder.checkpointing = True
    elif not getattr(encoder, "supports_gradient_checkpointing", False):
        raise LnmtError(
            "this encoder has no gradient checkpointing",
            where="params.yaml: train.gradient_checkpointing",
            value=type(encoder).__name__,
            fix="set it to false, or take an encoder of another family",
        )
    else:
        encoder.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]


def _of_transformers(family: str, config: Mapping[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModel
    from transformers.initialization import no_init_weights

    settings = AutoConfig.for_model(family, **{name: value for name, value in config.items() if name != "model_type"})
    settings.use_cache = False  # for generation alone; beside checkpointed blocks it is warned about
    from_config: Callable[..., nn.Module] = AutoModel.from_config  # it ships no types
    with no_init_weights():  # drawing numbers first would cost seconds on a large encoder
        encoder: nn.Module = from_config(settings)  # with torch's fused attention where the family has it
    if getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)  # the models that use it pool as they see fit
    kind = type(encoder)
    # A class, not a function set on the instance: a copy of the encoder must call the copy.
    encoder.__class__ = type(kind.__name__, (_States, kind), {})
    return encoder


class _States:
    """Before a transformers model: the last states alone."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask)  # type: ignore[misc]
        states: Tensor = outputs.last_hidden_state
        return states
