from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lnmt.bundles import Bundle
from lnmt.data.batches import Examples
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel, Inputs, Outputs, TrainingBatch
from lnmt.models.blocks import block_parameters, find_units, keep_units
from lnmt.models.structure import find_module
from lnmt.optimization.compressions import WeightCompression
from lnmt.optimization.compressions.drop_layers import DropLayers
from lnmt.optimization.compressions.prune_heads import PruneHeads, importance
from lnmt.optimization.workshop import Workshop
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.metrics.names import default_metric
from lnmt.training.prepare import TrainingData
from lnmt.types import Task
from tests.models.model_kit import inputs_of
from tests.optimization.weights_kit import as_bundle, exported_logits, logits, workshop
from tests.task_bundle import task_bundle
from tests.tiny_bundle import tiny_bundle
from tests.training.training_kit import tiny_examples, train_params

LAYER = "encoder.encoder.layer"
QUIET = Progress(show=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("prune") / "bundle")


def labelled(labels: Tensor) -> TrainingBatch:
    inputs = inputs_of([2, 40, 41, 42, 3], [2, 50, 51, 3], [2, 60, 3])
    return TrainingBatch(inputs["input_ids"], inputs["attention_mask"], labels, ("a", "b", "c"))


def causal(root: Path) -> BaseModel:
    return load_model(task_bundle(root / "causal", "text-generation"))


@pytest.mark.parametrize("place", range(4))
def test_taking_units_out_is_setting_their_states_to_zero(bundle: Bundle, place: int) -> None:
    model, inputs = load_model(bundle), labelled(torch.zeros(3)).inputs
    unit = find_units(model)[place]
    keep = torch.tensor([1]) if unit.attention else torch.arange(5, 40)
    muted = load_model(bundle)
    states = (keep[:, None] * unit.width + torch.arange(unit.width)).flatten()
    with torch.no_grad():
        weight = find_module(muted, unit.consumer, nn.Linear).weight
        mask = torch.zeros(weight.shape[1])
        mask[states] = 1
        weight.mul_(mask)
    keep_units(model, unit, keep)
    torch.testing.assert_close(model(inputs).logits, muted(inputs).logits, rtol=1e-4, atol=1e-5)
    removed = (unit.count - len(keep)) * unit.parameters(load_model(bundle))
    assert block_parameters(muted) - block_parameters(model) == removed


@pytest.mark.parametrize("place", range(4))
def test_gpt2_loses_units_alike(tmp_path: Path, place: int) -> None:
    model, muted = causal(tmp_path), causal(tmp_path)
    unit = find_units(model)[place]
    keep = torch.arange(1, unit.count)
    with torch.no_grad():
        find_module(muted, unit.consumer, nn.Linear).weight[:, : unit.width] = 0
    inputs = inputs_of([2, 10, 11, 12], [2, 13])
    before = block_parameters(model)
    keep_units(model, unit, keep)
    torch.testing.assert_close(model(inputs)[0], muted(inputs)[0], rtol=1e-4, atol=1e-4)
    assert before - block_parameters(model) == unit.parameters(muted)


def test_importance_is_the_slope_of_the_loss_along_a_gate(bundle: Bundle) -> None:
    model, batch = load_model(bundle), labelled(torch.tensor([0, 1, 2]))
    units = find_units(model)
    found = importance(model, units, [batch], QUIET)
    assert [len(one) for one in found] == [2, 64, 2, 64]
    for one, score in zip(units, found, strict=True):
        layer = find_module(model, one.consumer, nn.Linear)
        slopes = []
        for row in range(3):
            gate = torch.ones(one.count, requires_grad=True)
            hook = layer.register_forward_pre_hook(_gated(gate, one.width))
            alone = TrainingBatch(batch.input_ids[[row]], batch.attention_mask[[row]], batch.labels[[row]], ())
            slopes.append(torch.autograd.grad(model.training_step(alone), gate)[0].abs())
            hook.remove()
        torch.testing.assert_close(score.float(), torch.stack(slopes).mean(0), rtol=1e-3, atol=1e-6)


def _gated(gate: Tensor, width: int) -> Callable[[nn.Module, tuple[Any, ...]], Tensor]:
    return lambda _, inputs: inputs[0] * gate.repeat_interleave(width)


def test_importance_leaves_the_model_as_it_was(bundle: Bundle) -> None:
    model = load_model(bundle).train()
    importance(model, find_units(model), [labelled(torch.tensor([0, 1, 2]))], QUIET)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_asked_share_is_gone_and_every_engine_agrees(bundle: Bundle, tmp_path: Path) -> None:
    shop, compression = workshop(bundle, tmp_path), PruneHeads(parameters=0.5, multiple=8, fine_tune=False)
    model = compression.compress(load_model(bundle), shop)
    decided = compression.decided()
    before = block_parameters(load_model(bundle))
    assert (decided["parameters_before"], decided["parameters_after"]) == (before, block_parameters(model))
    # At most the last piece more: a head of 16 states, 4 · 32 numbers each and the biases.
    assert 0.5 * before <= before - block_parameters(model) < 0.5 * before + 16 * (4 * 32 + 3)
    assert all(count % 8 == 0 and count >= 16 for count in decided["columns"])
    assert all(count >= 1 for count in decided["heads"])
    written = as_bundle(model, bundle, tmp_path / "bundle")
    expected = logits(model, shop.calibration)
    np.testing.assert_array_equal(logits(load_model(written), shop.calibration), expected)
    found = exported_logits(written, tmp_path / "onnx", shop.calibration)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_least_squares_loses_less_of_the_answers(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    wanted = logits(load_model(bundle), shop.calibration)
    lost = {}
    for recover in (False, True):
        model = PruneHeads(0.4, multiple=8, recover=recover, fine_tune=False).compress(load_model(bundle), shop)
        lost[recover] = float(np.square(logits(model, shop.calibration) - wanted).mean())
    assert lost[True] < 0.8 * lost[False]


def test_what_the_model_learns_back_is_kept(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path, epochs=2)
    before = PruneHeads(0.5, multiple=8, fine_tune=False).compress(load_model(bundle), shop)
    compression = PruneHeads(0.5, multiple=8, hidden=True)
    after = compression.compress(load_model(bundle), shop)
    assert {name: tensor.shape for name, tensor in after.state_dict().items()} == {
        name: tensor.shape for name, tensor in before.state_dict().items()
    }
    assert not after.training
    assert _loss(after, shop.labelled) < _loss(before, shop.labelled)


def _loss(model: BaseModel, batches: Any) -> float:
    with torch.no_grad():
        return sum(float(model.eval().training_step(batch)) for batch in batches)


def test_pruning_twice_counts_from_what_is_left(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    model = load_model(bundle)
    for _ in range(2):
        compression = PruneHeads(0.2, multiple=8, fine_tune=False)
        model = compression.compress(model, shop)
    written = as_bundle(model, bundle, tmp_path / "bundle")
    np.testing.assert_array_equal(logits(load_model(written), shop.calibration), logits(model, shop.calibration))
    assert compression.decided()["parameters_before"] < block_parameters(load_model(bundle))


def task_shop(bundle: Bundle, work: Path) -> Workshop:
    """A workshop around random rows of the bundle's task; 6 steps an epoch."""
    task, labels = bundle.manifest.task, tuple(bundle.manifest.labels)
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.max_tokens)

    def rows(count: int) -> Examples:
        found, random = tiny_examples(count), np.random.default_rng(count)
        tokens = (found.tokens % min(tokenizer.vocabulary, 60)).astype(np.int32)
        targets: dict[Task, Any] = {
            "multi-label-classification": random.integers(0, 2, (count, len(labels))).astype(np.float32),
            "text-regression": random.normal(size=count).astype(np.float32),
            "token-classification": random.integers(0, max(len(labels), 1), len(tokens)),
            "text-generation": np.empty(0, np.int64),
        }
        return Examples(tokens, found.starts, targets[task], found.ids, task=task)

    data = TrainingData(task, labels, rows(96), rows(30), tokenizer, bundle.path, work)
    return replace(workshop(bundle, work), data=data, train=train_params(metric=default_metric(task), max_tokens=32))


@pytest.mark.parametrize(
    "task", ["multi-label-classification", "text-regression", "token-classification", "text-generation"]
)
@pytest.mark.parametrize("compression", [PruneHeads(0.2, multiple=8), DropLayers(1, hidden=True)])
def test_every_task_is_compressed_and_learns(task: Task, compression: WeightCompression, tmp_path: Path) -> None:
    bundle = task_bundle(tmp_path / "bundle", task)
    shop = task_shop(bundle, tmp_path)
    model = compression.compress(load_model(bundle), shop)
    assert block_parameters(model) < 0.82 * block_parameters(load_model(bundle))
    again = load_model(as_bundle(model, bundle, tmp_path / "compressed"))
    np.testing.assert_array_equal(_flat(again, shop), _flat(model, shop))


def _flat(model: BaseModel, shop: Workshop) -> Any:
    return np.concatenate([logits(model, [batch]).ravel() for batch in shop.calibration])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(LnmtError, match="out of range") as caught:
        PruneHeads(parameters=share)
    assert (caught.value.where, caught.value.value) == ("prune_heads.parameters", share)


def test_something_has_to_be_left(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="nothing would be left") as caught:
        PruneHeads(0.9, fine_tune=False).compress(load_model(bundle), workshop(bundle, tmp_path))
    assert "a head and 64 columns" in str(caught.value.allowed)


def test_there_must_be_rows_to_judge_by(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="nothing to calibrate on"):
        PruneHeads(0.2, multiple=8).compress(load_model(bundle), workshop(bundle, tmp_path, train=[]))


class Bag(BaseModel):
    """No blocks at all."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.words = nn.Embedding(100, 8)
        self.head = nn.Linear(8, self.outputs)

    def forward(self, inputs: Inputs) -> Outputs:
        pooled = self.words(inputs["input_ids"]).mean(1)
        return Outputs(self.head(pooled), pooled)


class Stack(Bag):
    """Blocks that have neither heads nor an inner layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))


@pytest.mark.parametrize(("kind", "words"), [(Bag, "no blocks"), (Stack, "cannot be taken out of blocks like these")])
def test_another_architecture_is_told_what_is_needed(
    bundle: Bundle, tmp_path: Path, kind: type[BaseModel], words: str
) -> None:
    model = kind({"task": "text-classification", "labels": 3})
    with pytest.raises(LnmtError, match=words) as caught:
        PruneHeads(0.2).compress(model, workshop(bundle, tmp_path))
    assert kind.__qualname__ in str(caught.value.where)
    assert caught.value.fix is not None
