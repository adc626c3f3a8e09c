from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lnmt.errors import UnknownName
from lnmt.models import build_model
from lnmt.models.base import BaseModel
from lnmt.models.lora import LoraLinear, add_lora, merge_lora
from lnmt.params import LoraParams, Plugin
from tests.models.model_kit import inputs_of
from tests.tiny_bundle import tiny_setup

INPUTS = inputs_of([2, 40, 41, 3], [2, 50, 3])


def lora(**changes: object) -> LoraParams:
    return LoraParams.model_validate(
        {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["*query*", "*value*"], **changes}
    )


@pytest.fixture
def classifier(encoder: Path) -> BaseModel:
    return build_model(Plugin(name="encoder_classifier"), tiny_setup(encoder)).eval()


@pytest.fixture
def causal(gpt2: Path) -> BaseModel:
    return build_model(Plugin(name="causal_lm"), tiny_setup(gpt2, "text-generation")).eval()


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def layers(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def disturb(model: nn.Module) -> None:
    """What training would do to the additions."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in layers(model).values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator))


def test_only_the_additions_and_the_head_learn(classifier: BaseModel) -> None:
    with torch.no_grad():
        before = classifier(INPUTS)
        add_lora(classifier, lora())
        after = classifier(INPUTS)
    assert len(layers(classifier)) == 4  # two in each of two blocks
    additions = {f"{name}.lora_{which}" for name in layers(classifier) for which in "ab"}
    assert learning(classifier) == additions | {"head.weight", "head.bias"}
    assert torch.equal(before.logits, after.logits), "it starts as nothing"


def test_in_a_causal_model_the_additions_alone_learn(causal: BaseModel) -> None:
    add_lora(causal, lora(targets=["*c_attn"]))
    assert learning(causal) == {f"transformer.h.{place}.attn.c_attn.lora_{which}" for place in (0, 1) for which in "ab"}


@pytest.mark.parametrize(("family", "targets"), [("classifier", ["*"]), ("causal", ["*"])])
def test_every_addition_counts_and_merging_changes_no_answer(
    family: str, targets: list[str], request: pytest.FixtureRequest
) -> None:
    model: BaseModel = request.getfixturevalue(family)
    names = set(model.state_dict())
    plain = model(INPUTS).logits.detach()
    add_lora(model, lora(targets=targets))
    for layer in layers(model).values():
        with torch.no_grad():
            layer.lora_b.fill_(1.0)
            assert not torch.equal(model(INPUTS).logits, plain), "the layer's forward is called"
            layer.lora_b.zero_()
    disturb(model)
    with torch.no_grad():
        unmerged = model(INPUTS)
        merge_lora(model)
        merged = model(INPUTS)
    assert float((unmerged.logits - plain).abs().max()) > 0.01
    torch.testing.assert_close(merged.logits, unmerged.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged.pooled, unmerged.pooled, rtol=1e-5, atol=1e-5)
    assert set(model.state_dict()) == names
    assert learning(model) == {name for name, _ in model.named_parameters()}


def test_merged_weights_are_the_sum(classifier: BaseModel) -> None:
    add_lora(classifier, lora(targets=["*layer.0*query"]))
    disturb(classifier)
    (name, layer), *others = layers(classifier).items()
    assert others == []
    expected = layer.weight.detach() + 2.0 * layer.lora_b.detach() @ layer.lora_a.detach()  # alpha / rank
    merge_lora(classifier)
    merged = classifier.get_submodule(name)
    assert type(merged) is nn.Linear
    torch.testing.assert_close(merged.weight.detach(), expected)


def test_a_state_dict_of_additions_goes_on(encoder: Path, classifier: BaseModel) -> None:
    add_lora(classifier, lora())
    disturb(classifier)
    other = build_model(Plugin(name="encoder_classifier"), tiny_setup(encoder, seed=8)).eval()
    add_lora(other, lora(), seed=5)
    other.load_state_dict(classifier.state_dict())
    with torch.no_grad():
        assert torch.equal(other(INPUTS).logits, classifier(INPUTS).logits)


def test_additions_are_drawn_from_the_seed_alone(encoder: Path) -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = build_model(Plugin(name="encoder_classifier"), tiny_setup(encoder))
        add_lora(model, lora(), seed=seed)
        return next(iter(layers(model).values())).lora_a

    generator = torch.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.get_rng_state(), generator)


def test_dropout_falls_on_the_addition_alone_and_in_training_alone(classifier: BaseModel) -> None:
    add_lora(classifier, lora(dropout=0.9))
    disturb(classifier)
    layer = next(iter(layers(classifier).values()))
    states = torch.ones(64, layer.in_features)
    with torch.no_grad():
        assert torch.equal(layer(states)[0], layer(states)[1])
        layer.train()
        dropped = layer(states)
        layer.lora_b.zero_()
        assert torch.equal(layer(states)[0], layer(states)[1])
    assert not torch.equal(dropped[0], dropped[1])


def test_the_layers_name_the_additions_with_their_block(classifier: BaseModel) -> None:
    add_lora(classifier, lora())
    for name in learning(classifier):
        assert sum(name.startswith(prefix) for layer in classifier.layers() for prefix in layer) == 1


def test_an_unknown_target_offers_a_near_one(classifier: BaseModel) -> None:
    with pytest.raises(UnknownName, match="unknown linear layer") as caught:
        add_lora(classifier, lora(targets=["*.value", "*.querry"]))
    assert caught.value.where == "params.yaml: train.lora.targets"
    assert caught.value.fix == "did you mean '*.query'?"
    assert layers(classifier) == {}
    assert len(learning(classifier)) == len(list(classifier.parameters())), "nothing was frozen"


def test_layers_that_are_never_called_take_no_addition() -> None:
    class Plain(BaseModel):
        def __init__(self) -> None:
            super().__init__({"task": "text-classification", "labels": 2})
            self.body = nn.TransformerEncoderLayer(8, 2, 16)
            self.wide = nn.Linear(8, 8)
            self.head = nn.Linear(8, 2)

    model = Plain()
    add_lora(model, lora(targets=["*"]))
    assert list(layers(model)) == ["wide"]
