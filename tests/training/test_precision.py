from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from lnmt.files import read_json, write_json
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.precision import Precision, arithmetic, choose_precision
from tests.training.training_kit import tiny_examples, tiny_model


@pytest.fixture
def model(encoder: Path) -> BaseModel:
    return tiny_model(encoder)


@pytest.fixture
def batches(encoder: Path) -> list[TrainingBatch]:
    return [to_batch(tiny_examples(16), np.arange(16), Tokenizer(encoder / "tokenizer.json", 20))]


@pytest.mark.parametrize("wanted", get_args(Precision))
def test_what_is_asked_for_is_not_measured(wanted: Precision, model: BaseModel, tmp_path: Path) -> None:
    choice = choose_precision(wanted, model, [], tmp_path / "kept.json")
    assert (choice.precision, choice.why, choice.rates) == (wanted, "asked for", {})
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_the_faster_and_says_why(model: BaseModel, batches: list[TrainingBatch], tmp_path: Path) -> None:
    choice = choose_precision("auto", model, batches, tmp_path / "kept.json")
    ratio = choice.rates["bf16"] / choice.rates["fp32"]
    assert choice.precision == ("bf16" if ratio > 1.03 else "fp32")
    assert f"{ratio:.2f}×" in choice.why
    assert read_json(tmp_path / "kept.json")["precision"] == choice.precision


def test_auto_is_measured_once(model: BaseModel, tmp_path: Path) -> None:
    kept = {"precision": "bf16", "why": "was faster", "rates": {"fp32": 1.0, "bf16": 2.0}}
    write_json(tmp_path / "kept.json", kept)
    choice = choose_precision("auto", model, [], tmp_path / "kept.json")  # no batches: nothing could be measured
    assert (choice.precision, choice.why, choice.rates) == ("bf16", "was faster", {"fp32": 1.0, "bf16": 2.0})


def test_measuring_leaves_no_trace(model: BaseModel, batches: list[TrainingBatch], tmp_path: Path) -> None:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    choose_precision("auto", model, batches, tmp_path / "kept.json")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert [parameter.grad for parameter in model.parameters() if parameter.grad is not None] == []
    assert model.training


def test_low_precision_rounds_products_and_keeps_the_weights(model: BaseModel, batches: list[TrainingBatch]) -> None:
    found = {}
    for precision in get_args(Precision):
        with arithmetic(precision, torch.device("cpu")):
            found[precision] = model(batches[0].inputs)[0].dtype
    assert found == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
