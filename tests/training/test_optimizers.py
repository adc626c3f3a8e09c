from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models import build_model
from lnmt.params import Plugin
from lnmt.training.optimizers import OPTIMIZERS, BaseOptimizer, build_optimizer, set_rate
from tests.training.training_kit import train_params


def plugin(**options: object) -> Plugin:
    return Plugin.model_validate({"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, **options})


def test_biases_and_norms_are_not_decayed(encoder: Path) -> None:
    model = build_model(train_params(), 3, encoder)
    optimizer = build_optimizer(model, plugin())
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, free = ([names[one] for one in group["params"]] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {name.rpartition(".")[2] for name in decayed} == {"weight"}
    assert all(name.endswith("bias") or "LayerNorm" in name for name in free)
    assert len(decayed) + len(free) == len(names)


def test_what_does_not_learn_is_left_out(encoder: Path) -> None:
    model = build_model(train_params(), 3, encoder)
    model.get_submodule("encoder").requires_grad_(False)
    groups = build_optimizer(model, plugin()).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]


@pytest.mark.parametrize("options", [{}, {"name": "sgd"}, {"name": "sgd", "momentum": 0.0}])
def test_a_step_goes_downhill(options: dict[str, Any]) -> None:
    layer = nn.Linear(4, 1)
    optimizer = build_optimizer(layer, plugin(**options))
    features = torch.ones(8, 4)
    before = layer(features).mean()
    torch.autograd.backward(before)
    optimizer.step()
    assert layer(features).mean() < before


def test_the_rate_of_every_group_is_moved() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), plugin(lr=0.4))
    assert set_rate(optimizer, 0.5) == 0.2
    assert set_rate(optimizer, 0.25) == 0.1, "a factor of the rate asked for, not of the last one"
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


def test_a_plugin_needs_only_a_rate_and_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sign(BaseOptimizer):
        def __init__(self, parameters: Any, lr: float) -> None:
            super().__init__(parameters)
            self.lr = lr

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.sub_(self.lr * parameter.grad.sign())

    monkeypatch.setattr(OPTIMIZERS, "_entries", {**OPTIMIZERS._entries, "sign": Sign})
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer, Plugin.model_validate({"name": "sign", "lr": 0.5}))
    torch.autograd.backward(layer(torch.ones(1, 2)).sum())
    optimizer.step()
    assert torch.equal(layer.weight, before - 0.5)


@pytest.mark.parametrize("rate", [0, -1e-4])
def test_a_rate_must_be_above_zero(rate: float) -> None:
    with pytest.raises(LnmtError) as caught:
        build_optimizer(nn.Linear(2, 2), plugin(lr=rate))
    assert str(rate) in str(caught.value)
    assert caught.value.where == "params.yaml: train.optimizer"
    assert caught.value.exit_code == 1


def test_a_misspelt_name_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown optimizer 'adam'") as caught:
        build_optimizer(nn.Linear(2, 2), plugin(name="adam"))
    assert caught.value.fix == "did you mean 'adamw'?"


def test_a_misspelt_option_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown option of 'adamw' 'weight_decai'") as caught:
        build_optimizer(nn.Linear(2, 2), plugin(weight_decai=0.1))
    assert caught.value.fix == "did you mean 'weight_decay'?"
