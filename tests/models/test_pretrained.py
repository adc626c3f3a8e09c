from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lnmt.errors import LnmtError
from lnmt.models.pretrained import read_config, read_weights
from tests.tiny_bundle import PIECES, tiny_setup


@pytest.fixture
def copy(encoder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(encoder, tmp_path / "encoder")


def change(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_configuration_is_read_without_what_means_nothing(encoder: Path) -> None:
    config = read_config(tiny_setup(encoder))
    assert (config["model_type"], config["hidden_size"], config["num_hidden_layers"]) == ("bert", 32, 2)
    assert "transformers_version" not in config
    assert "id2label" not in config


def test_texts_longer_than_the_positions_are_refused(encoder: Path) -> None:
    assert read_config(tiny_setup(encoder, max_tokens=128))
    with pytest.raises(LnmtError, match="longer than the encoder has positions") as caught:
        read_config(tiny_setup(encoder, max_tokens=129))
    assert (caught.value.value, caught.value.allowed) == (129, "at most 128")


@pytest.mark.parametrize(("family", "positions"), [("bert", 512), ("roberta", 510), ("gpt2", 1024)])
def test_positions_that_are_not_told_are_the_familys_usual_ones(copy: Path, family: str, positions: int) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config["max_position_embeddings"], config["pad_token_id"]
    (copy / "config.json").write_text(json.dumps({**config, "model_type": family}))
    assert read_config(tiny_setup(copy, max_tokens=positions))
    with pytest.raises(LnmtError, match="longer than the encoder has positions"):
        read_config(tiny_setup(copy, max_tokens=positions + 1))


def test_families_that_count_from_the_padding_on_have_fewer(copy: Path) -> None:
    change(copy, model_type="roberta", pad_token_id=1)
    assert read_config(tiny_setup(copy, max_tokens=126))
    with pytest.raises(LnmtError, match="longer than the encoder has positions") as caught:
        read_config(tiny_setup(copy, max_tokens=127))
    assert caught.value.allowed == "at most 126"


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    change(copy, vocab_size=len(PIECES) - 1)
    with pytest.raises(LnmtError, match="knows more tokens than the encoder has embeddings") as caught:
        read_config(tiny_setup(copy))
    assert (caught.value.value, caught.value.where) == (96, copy / "tokenizer.json")


@pytest.mark.parametrize(("text", "what"), [("{", "config.json is not JSON"), ("[]", "config.json is not an object")])
def test_an_unusable_config_is_told(copy: Path, text: str, what: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(LnmtError, match=what):
        read_config(tiny_setup(copy))
    (copy / "config.json").unlink()
    with pytest.raises(LnmtError, match=r"has no config\.json"):
        read_config(tiny_setup(copy))


def test_a_family_that_starts_from_a_pretrained_model_says_so() -> None:
    with pytest.raises(LnmtError, match="this model starts from a pretrained one") as caught:
        read_config(tiny_setup(None))
    assert caught.value.where == "params.yaml: train.encoder"


def test_unusable_weights_are_told(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LnmtError, match=r"model\.safetensors cannot be read"):
        read_weights(path)
    path.unlink()
    with pytest.raises(LnmtError, match=r"has no model\.safetensors") as caught:
        read_weights(path)
    assert caught.value.where == path
