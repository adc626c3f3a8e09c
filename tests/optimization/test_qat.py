from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import load_model
from lnmt.models.layers import linear_layers
from lnmt.optimization.compressions import COMPRESSIONS
from lnmt.optimization.compressions.fake_quant import (
    FakeQuantLinear,
    Rounding,
    attach,
    detach,
    round_inputs,
    round_weight,
)
from lnmt.optimization.compressions.int8_observe import Observed
from lnmt.optimization.compressions.int8_scales import group_scales
from lnmt.optimization.compressions.qat import QuantisationAware, find_scales
from lnmt.optimization.compressions.trim_vocabulary import TrimVocabulary
from tests.optimization.weights_kit import as_bundle, logits, workshop
from tests.tiny_bundle import tiny_bundle
from tests.training.training_kit import SignalProgress

HEAD = "head"
QUERY = "encoder.encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("qat") / "bundle")


pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_registered() -> None:
    assert COMPRESSIONS.get("qat", where="here") is QuantisationAware


numbers = st.floats(-100, 100, width=32)


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), st.floats(0.01, 1.0), st.integers(0, 255))
def test_inputs_come_to_the_nearest_of_256_levels(values: list[float], scale: float, zero: int) -> None:
    rounding = Rounding(scale, zero, None)
    states = torch.tensor(values)
    found = round_inputs(states, rounding)
    levels = found / scale + zero
    assert bool(((levels.round() - levels).abs() < 1e-2).all())
    assert 0 <= int(levels.round().min()) <= int(levels.round().max()) <= 255
    inside = states.clamp((0 - zero) * scale, (255 - zero) * scale)
    assert bool(((found - inside).abs() <= scale / 2 * 1.01).all())
    assert float(round_inputs(torch.zeros(1), rounding)) == 0.0, "padding stays nothing"


@settings(deadline=None)
@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5))
def test_weights_are_symmetric_integers_by_row(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows)
    found = round_weight(weight)
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    scales[scales == 0] = 1.0
    integers = found / scales
    assert bool(((integers.round() - integers).abs() < 1e-2).all())
    assert int(integers.round().abs().max()) <= 127
    assert bool(((found - weight).abs() <= scales / 2 * 1.01 + 1e-6).all())
    torch.testing.assert_close(round_weight(-weight), -found)


def test_gradients_pass_the_rounding_and_stop_outside() -> None:
    states = torch.tensor([-3.0, -0.5, 0.26, 3.0], requires_grad=True)
    torch.autograd.backward(round_inputs(states, Rounding(0.01, 100, None)).sum())  # −1…1.55
    assert states.grad is not None
    assert states.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    weight = torch.randn(3, 4, requires_grad=True)
    torch.autograd.backward((round_weight(weight) * torch.arange(12).view(3, 4)).sum())
    assert weight.grad is not None
    assert weight.grad.tolist() == torch.arange(12.0).view(3, 4).tolist()


@pytest.mark.parametrize("divisor", [None, torch.linspace(0.5, 4.0, 6)])
def test_a_layer_is_the_product_of_what_was_rounded(divisor: torch.Tensor | None) -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    states = torch.randn(7, 6)
    rounding = Rounding(0.05, 120, divisor)
    attach(model, {"0": rounding})
    factor = torch.ones(6) if divisor is None else divisor
    layer = model.get_submodule("0")
    weight = round_weight(layer.get_parameter("weight") * factor)
    expected = round_inputs(states / factor, rounding) @ weight.T + layer.get_parameter("bias")
    torch.testing.assert_close(model(states), expected)
    detach(model)
    moved = (model(states) - expected).detach().abs().max()
    assert 0 < float(moved) < 0.2, "8 bits are near"


def test_attaching_changes_answers_but_neither_parameters_nor_their_names(bundle: Bundle, tmp_path: Path) -> None:
    batches = workshop(bundle, tmp_path).calibration
    model = load_model(bundle)
    plain, parameters = logits(model, batches), list(model.parameters())
    names = list(model.state_dict())
    attach(model, dict.fromkeys(linear_layers(model), Rounding(0.02, 128, None)))
    assert sum(isinstance(layer, FakeQuantLinear) for layer in model.modules()) == 13
    assert not np.array_equal(logits(model, batches), plain)
    assert list(model.state_dict()) == names
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    detach(model)
    assert not any(isinstance(layer, FakeQuantLinear) for layer in model.modules())
    np.testing.assert_array_equal(logits(model, batches), plain)


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_the_packed_path_rounds_too(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """In training BERT multiplies by the three at once where they are plain."""
    from tests.optimization.weights_kit import inputs_of

    model = load_model(bundle).train()
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            vars(module)["dropout"] = 0.0
    vars(model.get_submodule("dropout"))["p"] = 0.0
    inputs = inputs_of(workshop(bundle, tmp_path).calibration[0])
    before = model(inputs)[0]
    attach(model, {f"encoder.encoder.layer.0.attention.self.{name}": Rounding(0.001, 128, None)})
    training = model(inputs)[0]
    assert not torch.equal(training, before)
    torch.testing.assert_close(training, model.eval()(inputs)[0], rtol=1e-4, atol=1e-4)


def test_what_comes_back_is_a_plain_model_that_learnt(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    compression = QuantisationAware(keep_float=["*.output.dense"])
    before = load_model(bundle)
    after = compression.compress(load_model(bundle), shop)
    assert {type(layer) for layer in linear_layers(after).values()} == {nn.Linear}
    assert list(after.state_dict()) == list(before.state_dict())
    assert after.config == before.config
    assert not after.training
    assert not torch.equal(after.get_parameter(f"{QUERY}.weight"), before.get_parameter(f"{QUERY}.weight"))
    smoothing = compression.decided()["smoothing"]
    assert set(smoothing) == {name for name in linear_layers(before) if not name.endswith("output.dense")}
    made = as_bundle(after, bundle, tmp_path / "made")
    np.testing.assert_array_equal(logits(load_model(made), shop.calibration), logits(after, shop.calibration))


def test_the_scales_are_those_of_static_int8(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    model = load_model(bundle)
    found = find_scales(model, {HEAD: linear_layers(model)[HEAD]}, shop.calibration)[HEAD]
    with torch.no_grad():
        pooled = torch.cat([model(batch.inputs)[1] for batch in shop.labelled]).numpy()
        seen = Observed(pooled.min(0), pooled.max(0), pooled)
        weight = model.get_parameter("head.weight").numpy().T
    expected = group_scales(seen, [weight], "minmax", symmetric=False)
    if found.divisor is not None:
        seen = Observed(pooled.min(0) / found.divisor, pooled.max(0) / found.divisor, pooled)
    low, high = min(float(seen.low.min()), 0.0), max(float(seen.high.max()), 0.0)
    assert found.activation.scale == pytest.approx((high - low) / 255)
    assert found.error == pytest.approx(expected.error, rel=0.5), "of another sample"


def test_its_run_is_one_that_rounds(bundle: Bundle, tmp_path: Path) -> None:
    """The same run without rounding comes to other weights."""
    rounded = QuantisationAware().compress(load_model(bundle), workshop(bundle, tmp_path / "rounded"))
    shop = workshop(bundle, tmp_path / "plain")
    plain = shop.fine_tune(load_model(bundle))
    assert not np.array_equal(logits(rounded, shop.calibration), logits(plain, shop.calibration))


def test_a_cut_run_goes_on_to_the_same_weights(bundle: Bundle, tmp_path: Path) -> None:
    whole = QuantisationAware().compress(load_model(bundle), workshop(bundle, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        cut = workshop(bundle, tmp_path / "cut", progress=SignalProgress(4, signal.SIGINT))
        QuantisationAware().compress(load_model(bundle), cut)
    again = workshop(bundle, tmp_path / "cut")
    resumed = QuantisationAware().compress(load_model(bundle), again)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_it_follows_other_compressions(bundle: Bundle, tmp_path: Path) -> None:
    trimmed = TrimVocabulary().compress(load_model(bundle), workshop(bundle, tmp_path / "first"))
    after = QuantisationAware().compress(trimmed, workshop(bundle, tmp_path / "second"))
    assert [operation["kind"] for operation in after.config["structure"]] == ["vocabulary"]


def test_bad_input_is_told(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    with pytest.raises(UnknownName, match="unknown linear layer") as caught:
        QuantisationAware(keep_float=["*.querry"]).compress(load_model(bundle), shop)
    assert caught.value.where == "qat.keep_float"
    with pytest.raises(LnmtError, match="no linear layers"):
        QuantisationAware(keep_float=["*"]).compress(load_model(bundle), shop)
    with pytest.raises(LnmtError, match="nothing to calibrate on"):
        QuantisationAware().compress(load_model(bundle), workshop(bundle, tmp_path, train=[]))
