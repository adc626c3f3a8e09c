from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import load_model
from lnmt.models.base import BaseModel, Inputs, Outputs
from lnmt.models.layers import linear_layers
from lnmt.models.low_rank import BlockLowRankLinear, LowRankLinear
from lnmt.optimization.compressions import COMPRESSIONS
from lnmt.optimization.compressions.low_rank import LowRank
from lnmt.optimization.compressions.moments import moments
from tests.optimization.weights_kit import as_bundle, exported_logits, inputs_of, logits, workshop
from tests.tiny_bundle import tiny_bundle

OUTPUT = "encoder.encoder.layer.0.output.dense"  # [32, 64]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("low-rank") / "bundle")


pytestmark = pytest.mark.usefixtures("one_thread")


def factors(model: nn.Module) -> dict[str, LowRankLinear | BlockLowRankLinear]:
    kinds = (LowRankLinear, BlockLowRankLinear)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def dense(ranks: Any) -> bool:
    return ranks is None or (isinstance(ranks, list) and all(rank is None for row in ranks for rank in row))


def change(model: BaseModel, bundle: Bundle, batches: Any) -> float:
    """How far the answers are from the trained model's, as a share of how far these are from their mean."""
    before = logits(load_model(bundle), batches)
    return float(((logits(model, batches) - before) ** 2).mean() / before.var(axis=0).mean())


def test_it_is_registered() -> None:
    assert COMPRESSIONS.get("low_rank", where="here") is LowRank


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("method", ["activation", "svd"])
def test_the_budget_holds_and_is_told(bundle: Bundle, tmp_path: Path, blocks: int, method: Any) -> None:
    shop = workshop(bundle, tmp_path)
    compression = LowRank(0.6, method, blocks=blocks, multiple=1, fine_tune=False)
    model = compression.compress(load_model(bundle), shop)
    layers = linear_layers(load_model(bundle), ["head."])
    before = sum(layer.weight.numel() for layer in layers.values())
    taken_out = sum(one.numel() for one in load_model(bundle).parameters()) - sum(
        one.numel() for one in model.parameters()
    )
    decided = compression.decided()
    assert decided["parameters_before"] == before == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert decided["parameters_kept"] == before - taken_out
    assert decided["share_kept"] == pytest.approx(0.6, abs=0.01)
    assert decided["share_kept"] <= 0.6
    assert set(decided["ranks"]) == set(layers), "the head is left out"
    assert set(factors(model)) == {name for name, ranks in decided["ranks"].items() if not dense(ranks)}
    assert not model.training


def test_a_model_with_the_numbers_to_spare_answers_as_before(bundle: Bundle, tmp_path: Path) -> None:
    """One layer of each form at its full rank: more numbers than the weight has, and the same answers."""
    from lnmt.optimization.compressions.low_rank import factorise
    from lnmt.optimization.compressions.low_rank_factors import block_spectra

    shop = workshop(bundle, tmp_path)
    for ranks in ([[32]], [[16, 16], [16, 16]], [[None, 16], [16, None]]):
        model = load_model(bundle)
        layers = {OUTPUT: linear_layers(model)[OUTPUT]}
        known = moments(model, layers, shop.calibration)
        factorise(
            model, {OUTPUT: ranks}, {OUTPUT: block_spectra(layers[OUTPUT].weight, known[OUTPUT], len(ranks))}, known
        )
        assert set(factors(model)) == {OUTPUT}
        np.testing.assert_allclose(
            logits(model, shop.calibration), logits(load_model(bundle), shop.calibration), atol=1e-4
        )


def test_what_the_activations_are_helps(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    found = {
        (method, budget): change(
            LowRank(budget, method, multiple=1, fine_tune=False).compress(load_model(bundle), shop),
            bundle,
            shop.calibration,
        )
        for method in ("activation", "svd")
        for budget in (0.5, 0.9)
    }
    assert found["activation", 0.5] < found["svd", 0.5]
    assert found["activation", 0.9] < found["svd", 0.9]
    assert found["activation", 0.9] < found["activation", 0.5]


def test_a_layer_answers_right_on_average(bundle: Bundle, tmp_path: Path) -> None:
    """Of the first layer with factors, whose inputs are still the trained model's."""
    shop = workshop(bundle, tmp_path)
    model = LowRank(0.5, multiple=1, fine_tune=False).compress(load_model(bundle), shop)
    name = next(iter(factors(model)))
    trained = load_model(bundle)
    mean = moments(trained, linear_layers(trained), shop.calibration)[name].mean.float()
    torch.testing.assert_close(model.get_submodule(name)(mean), trained.get_submodule(name)(mean), rtol=1e-4, atol=1e-4)


def test_padding_is_no_input(bundle: Bundle, tmp_path: Path) -> None:
    """The moments of a batch are those of its rows one by one, without padding."""
    shop = workshop(bundle, tmp_path)
    model = load_model(bundle)
    layers = {OUTPUT: linear_layers(model)[OUTPUT]}
    tokens = shop.data.train.rows(np.arange(6))
    together = moments(model, layers, [shop.tokenizer.pad(tokens, 8)])[OUTPUT]
    alone = moments(model, layers, [shop.tokenizer.pad([row], 1) for row in tokens])[OUTPUT]
    torch.testing.assert_close(together.mean, alone.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together.covariance, alone.covariance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_bundle_and_the_graph_answer_alike(bundle: Bundle, tmp_path: Path, blocks: int) -> None:
    shop = workshop(bundle, tmp_path)
    model = LowRank(0.5, blocks=blocks, multiple=2, fine_tune=False).compress(load_model(bundle), shop)
    made = as_bundle(model, bundle, tmp_path / "made")
    expected = logits(model, shop.calibration)
    np.testing.assert_array_equal(logits(load_model(made), shop.calibration), expected)
    np.testing.assert_allclose(exported_logits(made, tmp_path / "onnx", shop.calibration), expected, atol=1e-4)
    kinds = {operation["kind"] for operation in made.manifest.model["structure"]}
    assert kinds == {"low_rank" if blocks == 1 else "low_rank_blocks"}


def test_the_factors_learn(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path, epochs=3)
    plain = LowRank(0.4, multiple=1, fine_tune=False).compress(load_model(bundle), shop)
    tuned = LowRank(0.4, multiple=1).compress(load_model(bundle), shop)
    assert plain.state_dict().keys() == tuned.state_dict().keys()
    labels = torch.cat([batch.labels for batch in shop.labelled])
    losses = [
        float(functional.cross_entropy(torch.from_numpy(logits(model, shop.calibration)), labels))
        for model in (plain, tuned)
    ]
    assert losses[1] < losses[0] - 0.02
    assert not tuned.training


def test_constant_activations_leave_the_least_ranks(bundle: Bundle, tmp_path: Path) -> None:
    model = load_model(bundle)
    with torch.no_grad():
        for norm in (module for name, module in model.named_modules() if name.endswith("LayerNorm")):
            norm.weight.zero_()
    compression = LowRank(0.5, multiple=4, fine_tune=False)
    shop = workshop(bundle, tmp_path)
    before = logits(model, shop.calibration)
    after = compression.compress(model, shop)
    assert set(compression.decided()["ranks"].values()) == {4}
    assert compression.decided()["loss_of_outputs"] == 0.0
    np.testing.assert_allclose(logits(after, shop.calibration), before, atol=1e-4)


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.5, float("nan")])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(LnmtError, match="share of numbers") as caught:
        LowRank(budget)
    assert (caught.value.where, caught.value.allowed) == ("low_rank.budget", "0 < budget < 1")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "activations"}, "unknown method"),
        ({"blocks": 0}, "blocks is below 1"),
        ({"multiple": 0}, "multiple"),
    ],
)
def test_bad_options_are_refused(options: Mapping[str, Any], match: str) -> None:
    with pytest.raises(LnmtError, match=match):
        LowRank(**options)


def test_a_misspelt_method_offers_the_right_one() -> None:
    with pytest.raises(UnknownName) as caught:
        LowRank(method="activations")  # type: ignore[arg-type]
    assert caught.value.fix == "did you mean 'activation'?"


def test_ranks_that_do_not_fit_are_refused_with_what_would(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    with pytest.raises(LnmtError, match="too many numbers") as caught:
        LowRank(0.5, fine_tune=False).compress(load_model(bundle), shop)  # rank 16 is no gain for 32 × 32
    assert caught.value.allowed == "at least 0.875 for this model"
    model = LowRank(0.875, fine_tune=False).compress(load_model(bundle), shop)
    assert [layer.in_features for layer in factors(model).values()] == [32, 64, 32, 64]


def test_an_empty_calibration_is_told(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="nothing to calibrate on"):
        LowRank(0.9).compress(load_model(bundle), workshop(bundle, tmp_path, train=[]))


@pytest.mark.parametrize("method", ["activation", "svd"])
def test_a_model_without_linear_layers_is_told(bundle: Bundle, tmp_path: Path, method: Any) -> None:
    with pytest.raises(LnmtError, match="no linear layers") as caught:
        LowRank(0.9, method).compress(Bag(), workshop(bundle, tmp_path))
    assert str(caught.value.where).endswith("Bag")


class Bag(BaseModel):
    """Mean of word vectors."""

    def __init__(self) -> None:
        super().__init__({"task": "text-classification", "labels": 3})
        self.words = nn.Embedding(200, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        pooled = self.words(inputs["input_ids"]).mean(dim=1)
        return Outputs(self.head(pooled), pooled)


def test_only_layers_that_are_called_are_factorised(bundle: Bundle, tmp_path: Path) -> None:
    class Idle(Bag):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 3)
            self.wide, self.idle = nn.Linear(8, 64), nn.Linear(8, 64)
            self.last = nn.Linear(64, 3)

        def heads(self) -> list[str]:
            return ["last.", "head."]

        def forward(self, inputs: Inputs) -> Outputs:
            pooled = self.wide(self.words(inputs["input_ids"]).mean(dim=1))
            return Outputs(self.last(pooled), pooled)

    shop = workshop(bundle, tmp_path)
    model = LowRank(0.7, multiple=1, fine_tune=False).compress(Idle(), shop)
    assert set(factors(model)) == {"wide"}
    assert model(inputs_of(shop.calibration[0]))[0].shape == (16, 3)
