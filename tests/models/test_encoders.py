from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.bert import BertEncoder
from lnmt.models.encoders import FAMILIES, build_encoder, checkpoint_blocks, load_encoder

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
OTHERS: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 8},
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def small(family: str) -> nn.Module:
    encoder = build_encoder({"model_type": family, **SMALL, **OTHERS.get(family, {})})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in encoder.parameters():
            nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.fixture
def copied(encoder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(encoder, tmp_path / "encoder")


def config_of(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_states_that_padding_does_not_change(family: str) -> None:
    encoder = small(family).eval()
    with torch.no_grad():
        states = encoder(IDS, MASK)
        alone = encoder(IDS[1:, :2], MASK[1:, :2])
    assert states.shape == (2, 4, 16)
    torch.testing.assert_close(states[1:, :2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_copy_calls_itself(family: str) -> None:
    encoder = small(family).eval()
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        before = encoder(IDS, MASK)
        for parameter in copied.parameters():
            parameter.zero_()
        assert torch.equal(encoder(IDS, MASK), before)
        assert not copied(IDS, MASK).any()


def test_bert_is_ours_unless_its_config_is_special() -> None:
    assert isinstance(small("bert"), BertEncoder)
    special = build_encoder({"model_type": "bert", **SMALL, "hidden_act": "quick_gelu"})
    assert not isinstance(special, BertEncoder)


def test_bert_needs_no_transformers() -> None:
    code = (
        "import sys; from lnmt.models.encoders import build_encoder\n"
        f"build_encoder({ {'model_type': 'bert', **SMALL} })\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_family_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown encoder family 'berd'") as caught:
        build_encoder({"model_type": "berd"})
    assert caught.value.fix == "did you mean 'bert'?"


def test_weights_are_read_also_from_a_model_around_the_encoder(copied: Path) -> None:
    stored = load_file(copied / "model.safetensors")
    inside = {f"bert.{name}": tensor.to(torch.float16) for name, tensor in stored.items()}
    save_file(inside | {"cls.bias": torch.zeros(3)}, copied / "model.safetensors")
    encoder = build_encoder(config_of(copied))
    load_encoder(encoder, copied / "model.safetensors")
    assert encoder.state_dict().keys() == stored.keys()
    for name, tensor in encoder.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].half().float())


def lose_tensor(path: Path) -> None:
    stored = load_file(path)
    stored.pop("embeddings.LayerNorm.bias")
    save_file(stored, path)


def widen_tensor(path: Path) -> None:
    save_file(load_file(path) | {"embeddings.LayerNorm.bias": torch.zeros(33)}, path)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Path.unlink, "the encoder has no model.safetensors"),
        (lose_tensor, "the encoder's weights lack 1 of"),
        (widen_tensor, "the encoder's weights do not fit its config.json"),
    ],
)
def test_unusable_weights_are_told(copied: Path, damage: Callable[[Path], None], what: str) -> None:
    path = copied / "model.safetensors"
    damage(path)
    with pytest.raises(LnmtError, match=what) as caught:
        load_encoder(build_encoder(config_of(copied)), path)
    assert caught.value.where == path


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_checkpointing_gives_the_same_gradients(family: str) -> None:
    found = []
    for saving in (False, True):
        encoder = small(family).train()
        if saving:
            checkpoint_blocks(encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            torch.autograd.backward(encoder(IDS, MASK).square().sum())
        found.append({name: one.grad for name, one in encoder.named_parameters() if one.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_a_family_without_checkpointing_says_so() -> None:
    with pytest.raises(LnmtError, match="this encoder has no gradient checkpointing") as caught:
        checkpoint_blocks(small("mpnet"))
    assert caught.value.value == "MPNetModel"
