from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel
from lnmt.models.blocks import find_blocks, pair_blocks
from lnmt.models.structure import STRUCTURE
from lnmt.optimization.compressions.drop_layers import DropLayers, drop_blocks, spread
from tests.optimization.weights_kit import as_bundle, exported_logits, logits, workshop
from tests.task_bundle import task_bundle
from tests.tiny_bundle import tiny_bundle

LAYER = "encoder.encoder.layer"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("drop") / "bundle")


def stack(count: int) -> BaseModel:
    model = BaseModel({"task": "text-classification", "labels": 2})
    model.steps = nn.ModuleList(nn.Linear(2, 2) for _ in range(count))
    return model


@pytest.mark.parametrize(
    ("few", "count", "places"),
    [(1, 6, [0]), (2, 6, [0, 5]), (3, 6, [0, 2, 5]), (5, 6, [0, 1, 2, 3, 5]), (6, 12, [0, 2, 4, 6, 8, 11])],
)
def test_what_stays_is_spread_from_the_first_to_the_last(few: int, count: int, places: list[int]) -> None:
    assert spread(few, count) == places


def test_the_blocks_that_stay_are_the_models_own(bundle: Bundle, tmp_path: Path) -> None:
    compression = DropLayers([1], fine_tune=False)
    model, before = compression.compress(load_model(bundle), workshop(bundle, tmp_path)), load_model(bundle)
    blocks, others = find_blocks(model)[1], find_blocks(before)[1]
    assert len(blocks) == 1
    for name, tensor in blocks[0].state_dict().items():
        assert torch.equal(tensor, others[1].state_dict()[name])
    assert compression.decided()["kept"] == [1]
    assert compression.decided()["share_removed"] == 0.5


def test_every_engine_agrees_after_learning(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    model = DropLayers(1, hidden=True).compress(load_model(bundle), shop)
    written = as_bundle(model, bundle, tmp_path / "bundle")
    expected = logits(model, shop.calibration)
    np.testing.assert_array_equal(logits(load_model(written), shop.calibration), expected)
    found = exported_logits(written, tmp_path / "onnx", shop.calibration)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    fresh = DropLayers(1, fine_tune=False).compress(load_model(bundle), shop)
    assert not np.allclose(logits(fresh, shop.calibration), expected, atol=1e-2)


def test_gpt2_loses_layers_too(tmp_path: Path) -> None:
    causal = task_bundle(tmp_path / "causal", "text-generation")
    model = load_model(causal)
    drop_blocks(model, 1, "here")
    again = load_model(as_bundle(model, causal, tmp_path / "bundle"))
    assert again.config[STRUCTURE] == [{"kind": "drop", "module": "transformer.h", "keep": [0]}]
    ids = torch.tensor([[2, 10, 11]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(again(inputs)[0], model.eval()(inputs)[0])


def test_a_student_has_the_teachers_states_evenly_spread() -> None:
    assert list(pair_blocks(stack(3), stack(6)).values()) == ["steps.1", "steps.3", "steps.5"]
    assert list(pair_blocks(stack(2), stack(2)).items()) == [("steps.0", "steps.0"), ("steps.1", "steps.1")]


def test_the_blocks_are_the_list_that_holds_the_most() -> None:
    model = stack(2)
    model.heads_of_another_kind = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    assert find_blocks(model)[0] == "steps"


@pytest.mark.parametrize("keep", [0, 2, 3, -1, [], [2], [0, 0], [0, 1], [-1]])
def test_what_cannot_stay_is_refused(bundle: Bundle, keep: Any, tmp_path: Path) -> None:
    model = load_model(bundle)
    with pytest.raises(LnmtError, match="cannot be the ones that stay") as caught:
        DropLayers(keep).compress(model, workshop(bundle, tmp_path))
    assert (caught.value.where, caught.value.value) == ("drop_layers.keep", keep)
    assert "from 1 to 1" in str(caught.value.allowed)
    assert STRUCTURE not in model.config


def test_a_model_of_one_block_has_nothing_to_drop() -> None:
    with pytest.raises(LnmtError, match="cannot be the ones that stay") as caught:
        drop_blocks(stack(1), 1, "here")
    assert caught.value.allowed == "the model has one block alone"


def test_a_model_without_blocks_is_told_so() -> None:
    with pytest.raises(LnmtError, match="no blocks that could be told apart"):
        drop_blocks(stack(0), 1, "here")
