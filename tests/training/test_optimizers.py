from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import TrainParams
from lnmt.training.optimizers import OPTIMIZERS, BaseOptimizer, build_optimizer, set_rate
from tests.training.training_kit import tiny_model, train_params


def options_of(changes: dict[str, Any] | None = None, **options: object) -> TrainParams:
    """Parameters whose optimiser has `options`; `changes` are of the others."""
    optimizer = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, **options}
    return train_params(optimizer=optimizer, **(changes or {}))


def names_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    """The parameter names of each group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[one] for one in group["params"]] for group in optimizer.param_groups]


def test_biases_and_norms_are_not_decayed(encoder: Path) -> None:
    model = tiny_model(encoder)
    optimizer = build_optimizer(model, options_of())
    decayed, free = names_of(model, optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {name.rpartition(".")[2] for name in decayed} == {"weight"}
    assert all(name.endswith("bias") or "LayerNorm" in name for name in free)
    assert len(decayed) + len(free) == len(list(model.parameters()))


def test_what_does_not_learn_is_left_out(encoder: Path) -> None:
    model = tiny_model(encoder)
    model.get_submodule("encoder").requires_grad_(False)
    assert names_of(model, build_optimizer(model, options_of())) == [["head.weight"], ["head.bias"]]


def test_what_matches_a_glob_learns_no_more(encoder: Path) -> None:
    model = tiny_model(encoder)
    globs = ["encoder.embeddings.*", "*.layer.0.*", "head.bias"]
    groups = names_of(model, build_optimizer(model, options_of({"freeze": globs})))
    learning = [name for names in groups for name in names]
    expected = [name for name, _ in model.named_parameters() if ".layer.1." in name] + ["head.weight"]
    assert sorted(learning) == sorted(expected)
    assert {name for name, one in model.named_parameters() if one.requires_grad} == set(expected)


def test_a_glob_that_matches_nothing_is_told_the_near_one(encoder: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown parameter 'encoder.embedings.\*'") as caught:
        build_optimizer(tiny_model(encoder), options_of({"freeze": ["encoder.embedings.*"]}))
    assert caught.value.where == "params.yaml: train.freeze"
    assert "did you mean 'encoder.embeddings." in str(caught.value.fix)


def test_freezing_all_is_told(encoder: Path) -> None:
    with pytest.raises(LnmtError, match="no parameter is left to learn") as caught:
        build_optimizer(tiny_model(encoder), options_of({"freeze": ["*"]}))
    assert caught.value.where == "params.yaml: train.freeze"


def test_rates_fall_from_the_head_to_the_embeddings(encoder: Path) -> None:
    model = tiny_model(encoder)
    optimizer = build_optimizer(model, options_of({"layer_decay": 0.5}, lr=0.8))
    rates = {
        name: group["lr"]
        for names, group in zip(names_of(model, optimizer), optimizer.param_groups, strict=True)
        for name in names
    }
    assert len(rates) == len(list(model.parameters()))
    assert rates["head.weight"] == rates["head.bias"] == 0.8
    assert rates["encoder.encoder.layer.1.output.dense.weight"] == 0.4
    assert rates["encoder.encoder.layer.0.attention.self.query.bias"] == 0.2
    assert rates["encoder.embeddings.word_embeddings.weight"] == rates["encoder.embeddings.LayerNorm.bias"] == 0.1
    assert set_rate(optimizer, 0.5) == 0.4, "the head's rate is the one that is told"
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.05, 0.1, 0.2, 0.4]


@pytest.mark.parametrize("options", [{}, {"name": "sgd"}, {"name": "sgd", "momentum": 0.0}])
def test_a_step_goes_downhill(options: dict[str, Any]) -> None:
    layer = nn.Linear(4, 1)
    optimizer = build_optimizer(layer, options_of(**options))
    features = torch.ones(8, 4)
    before = layer(features).mean()
    torch.autograd.backward(before)
    optimizer.step()
    assert layer(features).mean() < before


def test_the_rate_of_every_group_is_moved() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), options_of(lr=0.4))
    assert set_rate(optimizer, 0.5) == 0.2
    assert set_rate(optimizer, 0.25) == 0.1, "a factor of the rate asked for, not of the last one"
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


@pytest.fixture
def sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin as the specification writes it: it knows of a list of parameters and of one rate."""

    class Sign(BaseOptimizer):
        def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
            super().__init__(parameters)
            self.lr = lr
            self.steps = [torch.zeros_like(parameter) for parameter in parameters]

        def step(self) -> None:  # type: ignore[override]
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.sub_(self.lr * parameter.grad.sign())

    monkeypatch.setattr(OPTIMIZERS, "_entries", {**OPTIMIZERS._entries, "sign": Sign})


@pytest.mark.usefixtures("sign")
def test_a_plugin_needs_only_a_rate_and_a_step() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer, train_params(optimizer={"name": "sign", "lr": 0.5}))
    torch.autograd.backward(layer(torch.ones(1, 2)).sum())
    set_rate(optimizer, 0.5)
    optimizer.step()
    assert torch.equal(layer.weight, before - 0.25)
    assert [group.get("weight_decay") for group in optimizer.param_groups] == [None, 0.0]


@pytest.mark.usefixtures("sign")
def test_a_plugin_gets_groups_with_layer_wise_rates(encoder: Path) -> None:
    model = tiny_model(encoder)
    optimizer = build_optimizer(model, train_params(optimizer={"name": "sign", "lr": 0.5}, layer_decay=0.5))
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.0625, 0.125, 0.25, 0.5]
    assert isinstance(optimizer, BaseOptimizer)
    assert optimizer.lr == 0.5
    state = optimizer.state_dict()
    build_optimizer(model, train_params(optimizer={"name": "sign"}, layer_decay=0.5)).load_state_dict(state)


@pytest.mark.parametrize("rate", [0, -1e-4])
def test_a_rate_must_be_above_zero(rate: float) -> None:
    with pytest.raises(LnmtError) as caught:
        build_optimizer(nn.Linear(2, 2), options_of(lr=rate))
    assert str(rate) in str(caught.value)
    assert caught.value.where == "params.yaml: train.optimizer"
    assert caught.value.exit_code == 1


def test_a_misspelt_name_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown optimizer 'adam'") as caught:
        build_optimizer(nn.Linear(2, 2), options_of(name="adam"))
    assert caught.value.fix == "did you mean 'adamw'?"


def test_a_misspelt_option_is_told_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown option of 'adamw' 'weight_decai'") as caught:
        build_optimizer(nn.Linear(2, 2), options_of(weight_decai=0.1))
    assert caught.value.fix == "did you mean 'weight_decay'?"
