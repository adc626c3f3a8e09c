from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel
from lnmt.models.layers import linear_layers
from lnmt.optimization.compressions.prune_weights import PruneWeights, largest
from tests.optimization.weights_kit import workshop
from tests.tiny_bundle import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("weights") / "bundle")


def zeros(model: BaseModel) -> dict[str, torch.Tensor]:
    return {name: layer.weight == 0 for name, layer in linear_layers(model, model.heads()).items()}


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0.5, [[False, True], [True, False]]),
        (0.25, [[False, True], [True, True]]),
        (0.74, [[False, False], [True, False]]),
    ],
)
def test_the_smallest_go(share: float, kept: list[list[bool]]) -> None:
    assert largest(torch.tensor([[0.1, -2.0], [3.0, 0.2]]), share).tolist() == kept


def test_of_equals_exactly_so_many_go() -> None:
    assert int(largest(torch.ones(10, 10), 0.3).sum()) == 70


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}])
def test_zeros_stay_while_the_others_learn(bundle: Bundle, tmp_path: Path, changes: dict[str, Any]) -> None:
    shop = workshop(bundle, tmp_path)
    shop = replace(shop, train=shop.train.model_copy(update=changes))
    still = PruneWeights(0.5, fine_tune=False).compress(load_model(bundle), shop)
    compression = PruneWeights(0.5)
    learnt = compression.compress(load_model(bundle), shop)
    expected, found = zeros(still), zeros(learnt)
    assert all(int(mask.sum()) == mask.numel() // 2 for mask in expected.values())
    assert all(torch.equal(found[name], mask) for name, mask in expected.items())
    query = "encoder.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(learnt.get_parameter(query), still.get_parameter(query))
    assert compression.decided()["share_of_zeros"] == 0.5
    assert "dense engines" in compression.decided()["gain"]


def test_the_head_is_left_whole(bundle: Bundle, tmp_path: Path) -> None:
    model = PruneWeights(0.9, fine_tune=False).compress(load_model(bundle), workshop(bundle, tmp_path))
    assert torch.equal(model.get_parameter("head.weight"), load_model(bundle).get_parameter("head.weight"))


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(LnmtError, match="out of range") as caught:
        PruneWeights(share)
    assert caught.value.where == "prune_weights.share"


def test_a_model_without_linear_layers_is_told_so(bundle: Bundle, tmp_path: Path) -> None:
    model = BaseModel({"task": "text-classification", "labels": 3})
    model.head = nn.Linear(2, 3)
    with pytest.raises(LnmtError, match="no linear layers besides its head"):
        PruneWeights().compress(model, workshop(bundle, tmp_path))
