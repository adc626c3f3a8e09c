from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lnmt.models.base import BaseModel, Inputs, Outputs, TrainingBatch
from lnmt.params import TrainParams
from lnmt.training import row_gradients
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.execution import Execution, Update
from lnmt.training.precision import Precision
from lnmt.training.state import TrainState
from tests.training.training_kit import tiny_model, train_params

CPU = torch.device("cpu")
LOW: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


@pytest.fixture(autouse=True)
def _row_gradients(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Also of an embedding as small as the tests'."""
    monkeypatch.setattr(row_gradients, "LARGE", 1000)


def batches(count: int, rows: int = 8) -> list[TrainingBatch]:
    """Random texts whose first token tells the label, of 3 to 9 tokens."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        labels = torch.randint(0, 3, (rows,), generator=draw)
        ids = torch.randint(10, 60, (rows, 9), generator=draw)
        ids[:, 0] = labels + 5
        lengths = torch.randint(3, 10, (rows, 1), generator=draw)
        mask = (torch.arange(9) < lengths).long()
        made.append(TrainingBatch(ids * mask, mask, labels, tuple(map(str, range(rows)))))
    return made


def make(encoder: Path, precision: Precision = "fp32", model: BaseModel | None = None, **changes: Any) -> Execution:
    options = options_of(**changes)
    return Execution(model or tiny_model(encoder, options), options, precision=precision, compiled=False, device=CPU)


def options_of(**changes: Any) -> TrainParams:
    return train_params(**{"optimizer": {"name": "adamw", "lr": 5e-3, "weight_decay": 0.01}} | changes)


def steps(execution: Execution, some: Sequence[TrainingBatch]) -> list[Update]:
    found = []
    for batch in some:
        execution.backward(execution.loss(batch))
        found.append(execution.update(1.0))
    return found


class Plugin(BaseModel):
    """A team's own model: an embedding bag, a recurrent layer, an attention layer, a head; none of them ours."""

    def __init__(self) -> None:
        super().__init__({"task": "text-classification", "labels": 3})
        torch.manual_seed(0)
        self.words = nn.Embedding(80, 16)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.mixer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        states, _ = self.recurrent(self.words(inputs["input_ids"]))
        pooled = self.mixer(states)[:, 0]
        return Outputs(self.head(pooled), pooled)


@pytest.mark.parametrize("precision", LOW)
def test_ours_learns_in_every_precision(encoder: Path, precision: Precision) -> None:
    execution, (batch,) = make(encoder, precision), batches(1)
    before = execution.loss(batch).item()
    updates = steps(execution, [batch] * 30)
    assert execution.loss(batch).item() < before / 2
    assert sum(update.skipped for update in updates) <= (5 if precision == "fp16" else 0)
    assert {weight.dtype for weight in execution.weights().values()} == {torch.float32}
    assert {parameter.dtype for parameter in execution.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", LOW)
def test_a_teams_own_model_learns_in_every_precision(encoder: Path, precision: Precision) -> None:
    execution, (batch,) = make(encoder, precision, Plugin()), batches(1)
    before = execution.loss(batch).item()
    steps(execution, [batch] * 30)
    assert execution.loss(batch).item() < before / 2


def test_fp32_steps_are_those_of_plain_torch(encoder: Path) -> None:
    options = options_of(max_gradient_norm=0.5, model={"name": "encoder_classifier", "dropout": 0.0})
    execution, plain = make(encoder, max_gradient_norm=0.5), tiny_model(encoder, options)
    for model in (execution.model, plain):
        _no_dropout(model)
    matrices, others = ([one for one in plain.parameters() if (one.dim() >= 2) is decayed] for decayed in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=5e-3
    )
    for batch, update in zip(batches(6), steps(execution, batches(6)), strict=True):
        torch.autograd.backward(plain.training_step(batch))
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert update.gradient_norm == pytest.approx(float(norm), rel=1e-4)
        assert update.lr == 5e-3
    for name, weight in execution.weights().items():
        torch.testing.assert_close(weight, plain.state_dict()[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_norm_below_the_limit_is_told_and_nothing_clipped(encoder: Path) -> None:
    found = []
    for limit in (None, 1e6, 1e-3):
        execution = make(encoder, max_gradient_norm=limit, optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0})
        _no_dropout(execution.model)
        before = execution.weights()
        (update,) = steps(execution, batches(1))
        moved = torch.stack([(weight - before[name]).norm() for name, weight in execution.weights().items()]).norm()
        found.append((update.gradient_norm, float(moved)))
    assert [norm for norm, _ in found] == [found[0][0]] * 3
    assert found[0][1] == pytest.approx(found[0][0], rel=1e-4)
    assert found[1] == found[0]
    assert found[2][1] == pytest.approx(1e-3, rel=1e-3)


def test_gathered_gradients_add_up(encoder: Path) -> None:
    (batch,) = batches(1)
    halves = [
        TrainingBatch(batch.input_ids[at], batch.attention_mask[at], batch.labels[at], batch.ids[at])
        for at in (slice(0, 4), slice(4, 8))
    ]
    found = []
    for parts in ([batch], halves):
        execution = make(encoder)
        _no_dropout(execution.model)
        for part in parts:
            execution.backward(execution.loss(part) * (len(part) / len(batch)))
        found.append(execution.update(1.0).gradient_norm)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_discarded_gradients_change_nothing(encoder: Path) -> None:
    found = []
    for discards in (False, True):
        execution = make(encoder)
        _no_dropout(execution.model)
        if discards:
            execution.backward(execution.loss(batches(2)[1]))
            execution.discard()
        steps(execution, batches(1))
        found.append(execution.weights())
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())


@pytest.mark.parametrize("precision", LOW)
def test_gradients_that_are_not_finite_change_nothing(encoder: Path, precision: Precision) -> None:
    execution, (batch,) = make(encoder, precision), batches(1)
    steps(execution, [batch])
    before, state = execution.weights(), execution.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    execution.backward(execution.loss(batch) * math.inf)
    update = execution.update(1.0)
    assert update.skipped
    assert all(torch.equal(weight, before[name]) for name, weight in execution.weights().items())
    assert torch.equal(execution.optimizer.state_dict()["state"][0]["exp_avg"], state)
    assert not steps(execution, [batch] * 12)[-1].skipped


def test_fp16_halves_its_scale_where_gradients_overflow(encoder: Path) -> None:
    execution, (batch,) = make(encoder, "fp16"), batches(1)
    steps(execution, [batch] * 12)
    scaler = execution.parts()["scaler"]
    before = scaler.state_dict()["scale"]
    execution.backward(execution.loss(batch) * math.inf)
    execution.update(1.0)
    assert scaler.state_dict()["scale"] == before / 2


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"optimizer": {"name": "sgd", "lr": 0.1}}])
@pytest.mark.parametrize("precision", LOW)
def test_a_run_that_was_cut_ends_at_the_same_weights(
    encoder: Path, tmp_path: Path, precision: Precision, changes: dict[str, Any]
) -> None:
    some, cut = batches(7), 4
    whole = make(encoder, precision, **changes)
    torch.manual_seed(1)
    expected = steps(whole, some)

    torch.manual_seed(1)
    first = make(encoder, precision, **changes)
    checkpoints = Checkpoints(tmp_path, {}, keep=1, note=print)
    steps(first, some[:cut])
    checkpoints.save(TrainState(step=cut), first.parts())
    again = make(encoder, precision, **changes)
    torch.manual_seed(99)
    assert checkpoints.resume(again.parts()) == TrainState(step=cut)
    assert steps(again, some[cut:]) == expected[cut:]
    for name, weight in whole.weights().items():
        assert torch.equal(again.weights()[name], weight), name
    for name, tensor in checkpoints.weights(cut).items():
        assert torch.equal(first.weights()[name], tensor), "what would be saved is the part `model`"


def test_averages_are_evaluated_and_saved_while_the_weights_go_on(encoder: Path) -> None:
    execution, plain = make(encoder, ema_decay=0.5), make(encoder)
    for one in (execution, plain):
        torch.manual_seed(0)
        steps(one, batches(3))
    (batch,) = batches(1)
    averaged = tiny_model(encoder, options_of()).eval()
    averaged.load_state_dict(execution.weights())
    with execution.evaluating() as run, plain.evaluating() as run_plain:
        found, unlike = run(batch).logits, run_plain(batch).logits
    with torch.no_grad():
        torch.testing.assert_close(found, averaged(batch.inputs).logits)
    assert not torch.allclose(found, unlike)
    learning = execution.model.state_dict()
    assert all(torch.equal(learning[name], weight) for name, weight in plain.weights().items())


def test_evaluating_gives_fp32_and_goes_back_to_training(encoder: Path) -> None:
    execution, (batch,) = make(encoder, "bf16"), batches(1)
    with execution.evaluating() as run:
        assert not execution.model.training
        first, second = run(batch), run(batch)
    assert execution.model.training
    assert (first.logits.dtype, first.pooled.dtype) == (torch.float32, torch.float32)
    assert torch.equal(first.logits, second.logits)
    with pytest.raises(KeyError), execution.evaluating():
        raise KeyError
    assert execution.model.training


def test_compiled_steps_are_what_torch_compile_makes(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(function: Callable[[TrainingBatch], Tensor], **options: Any) -> Callable[[TrainingBatch], Tensor]:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    options = options_of()
    execution = Execution(tiny_model(encoder), options, precision="fp32", compiled=True, device=CPU)
    execution.backward(execution.loss(batches(1)[0]))
    assert asked == [{"dynamic": True}]
    assert not any(one.grad.is_sparse for one in execution.model.parameters() if one.grad is not None)


def _no_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(vars(module).get("dropout"), float):
            vars(module)["dropout"] = 0.0
