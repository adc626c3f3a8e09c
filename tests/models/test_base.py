from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.base import BaseModel, Inputs, Outputs, TrainingBatch
from lnmt.types import Task
from tests.models.model_kit import inputs_of
from tests.tiny_bundle import tiny_setup

INPUTS = inputs_of([5, 6, 7], [8])


class Counter(BaseModel):
    """A plugin as small as one can be."""

    tasks = ("text-classification", "text-regression")

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.words = nn.Embedding(self.config["vocabulary"], self.config.get("width", 4))
        self.head = nn.Linear(self.words.embedding_dim, self.outputs)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        pooled = self.words(inputs["input_ids"]).mean(dim=1)
        return self.in_units(self.head(pooled)), pooled


def counter(task: Task = "text-classification", **options: Any) -> Counter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counter(Counter.configure(tiny_setup(None, task, options=options)))


def batch_of(labels: Tensor) -> TrainingBatch:
    return TrainingBatch(INPUTS["input_ids"], INPUTS["attention_mask"], labels, ("a", "b"))


def test_the_configuration_of_a_plugin_tells_all_that_it_needs() -> None:
    assert Counter.configure(tiny_setup(None, options={"width": 6})) == {
        "task": "text-classification",
        "labels": 3,
        "vocabulary": 96,
        "max_tokens": 20,
        "pad_id": 0,
        "width": 6,
    }
    regression = counter("text-regression")
    assert (regression.labels, regression.outputs) == (0, 1)
    assert (counter().task, counter().labels, counter().outputs) == ("text-classification", 3, 3)
    assert counter(width=6).describe("counter") == {"name": "counter", **counter(width=6).config}


def test_a_class_that_names_its_options_refuses_others() -> None:
    class Careful(Counter):
        options: ClassVar[Mapping[str, Any]] = {"width": 8, "depth": 2}

    assert Careful.configure(tiny_setup(None, options={"depth": 3})).items() >= {"width": 8, "depth": 3}.items()
    with pytest.raises(UnknownName, match="unknown option of Careful 'widht'") as caught:
        Careful.configure(tiny_setup(None, options={"widht": 3}))
    assert (caught.value.where, caught.value.fix) == ("params.yaml: train.model", "did you mean 'width'?")


@pytest.mark.parametrize(
    "config", [{}, {"task": "text-classification"}, {"task": "classify", "labels": 2}, {"labels": 2}]
)
def test_a_configuration_without_task_or_labels_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(LnmtError, match="must tell its task and its number of labels") as caught:
        BaseModel(config)
    assert caught.value.where == "BaseModel"


def test_a_plugin_without_forward_is_told_to_define_it() -> None:
    class Bare(BaseModel):
        pass

    with pytest.raises(LnmtError, match="a model needs a forward method") as caught:
        Bare({"task": "text-classification", "labels": 2})(INPUTS)
    assert caught.value.fix == "define forward(self, inputs) -> (logits, pooled)"


def test_the_steps_are_the_tasks_loss_and_forward() -> None:
    model, batch = counter(), batch_of(torch.tensor([2, 0]))
    logits, pooled = model(INPUTS)
    loss = model.training_step(batch)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, batch.labels))
    outputs = model.validation_step(batch)
    assert isinstance(outputs, Outputs)
    assert torch.equal(outputs.logits, logits)
    assert torch.equal(outputs.pooled, pooled)


def test_smoothing_and_weights_belong_to_the_run_and_not_to_the_model() -> None:
    model, batch = counter(), batch_of(torch.tensor([2, 0]))
    names = set(model.state_dict())
    weights = torch.tensor([1.0, 1.0, 4.0])
    model.use_loss(label_smoothing=0.1, class_weights=weights)
    expected = nn.functional.cross_entropy(model(INPUTS)[0], batch.labels, weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(model.training_step(batch), expected)
    assert set(model.state_dict()) == names
    moved = dict(model.to(torch.float64).named_buffers())["_class_weights"]
    assert torch.equal(moved, weights.double()), "they follow the model"


def test_regression_learns_standardised_targets_and_answers_in_their_unit() -> None:
    model, batch = counter("text-regression"), batch_of(torch.tensor([90.0, 30.0]))
    model.fit_targets(torch.tensor([20.0, 40.0, 60.0]))
    assert (model.config["target_mean"], model.config["target_std"]) == (40.0, pytest.approx(16.3299316))
    raw = model.head(model(INPUTS)[1])
    torch.testing.assert_close(model(INPUTS)[0], raw * 16.3299316 + 40.0)
    standard = (batch.labels - 40) / 16.3299316
    torch.testing.assert_close(model.training_step(batch), (raw[:, 0] - standard).square().mean())
    again = Counter(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(INPUTS)[0], model(INPUTS)[0])


def test_targets_that_are_all_the_same_leave_the_scale() -> None:
    model = counter("text-regression")
    model.fit_targets(torch.full((4,), 7.0))
    assert (model.config["target_mean"], model.target_std) == (7.0, 1.0)


def test_half_precision_weights_do_not_round_the_targets_scale() -> None:
    model = counter("text-regression")
    model.fit_targets(torch.tensor([1000.3, 1002.3]))  # bf16 knows 1000 and 1004
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        logits, _ = model.to(torch.bfloat16)(INPUTS)
    torch.testing.assert_close(logits, torch.full((2, 1), 1001.3))


def test_other_tasks_logits_stay_as_they_are() -> None:
    raw = torch.ones(2, 3, dtype=torch.bfloat16)
    assert counter().in_units(raw) is raw


def test_a_batch_knows_its_inputs_and_rows_and_moves() -> None:
    batch = batch_of(torch.tensor([2, 0]))
    assert batch.inputs == {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    moved = batch.to(torch.device("meta"))
    assert {moved.input_ids.device.type, moved.attention_mask.device.type, moved.labels.device.type} == {"meta"}
    assert (len(moved), moved.ids) == (2, ("a", "b"))


def test_layers_and_head_come_from_the_names() -> None:
    assert counter().layers() == [["words.weight"], ["head.weight", "head.bias"]]
    assert counter().heads() == ["head.weight", "head.bias"]


def test_a_model_without_gradient_checkpointing_says_so() -> None:
    with pytest.raises(LnmtError, match="has no gradient checkpointing") as caught:
        counter().enable_gradient_checkpointing()
    assert caught.value.where == f"{Counter.__module__}.Counter"
