from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel, Inputs, TrainingBatch
from lnmt.models.calls import Outputs, call_model, check_loss
from lnmt.types import Task
from tests.models.model_kit import inputs_of

INPUTS = inputs_of([5, 6, 7], [8])  # B = 2, T = 3


class Giver(BaseModel):
    """A plugin that returns what it was told to."""

    tasks = ("text-classification",)

    def __init__(self, found: Any, task: Task = "text-classification", labels: int = 4) -> None:
        super().__init__({"task": task, "labels": labels})
        self.found = found

    def forward(self, inputs: Inputs) -> Any:
        return self.found


def floats(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("task", "labels", "shape"),
    [
        ("text-classification", 4, (2, 4)),
        ("multi-label-classification", 4, (2, 4)),
        ("text-regression", 0, (2, 1)),
        ("token-classification", 4, (2, 3, 4)),
        ("text-generation", 0, (2, 3, 50)),
    ],
)
def test_what_fits_the_task_is_taken(task: Task, labels: int, shape: tuple[int, ...]) -> None:
    logits, pooled = floats(*shape), floats(2, 6)
    found = call_model(Giver((logits, pooled), task, labels), INPUTS, task)
    assert isinstance(found, Outputs)
    assert (found.logits is logits, found.pooled is pooled) == (True, True)
    with pytest.raises(LnmtError, match=f"logits of a wrong shape for {task}"):
        call_model(Giver((floats(*shape[:-1]), pooled), task, labels), INPUTS, task)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (floats(2, 4), "a tensor torch.float32 [2, 4]"),  # logits alone
        (None, "NoneType"),  # no return
        ({"logits": floats(2, 4)}, "dict"),
        ((floats(2, 4),), "tuple(a tensor torch.float32 [2, 4])"),
        ((floats(2, 4), None), "tuple(a tensor torch.float32 [2, 4], NoneType)"),
        ((torch.zeros(2, 4, dtype=torch.int64), floats(2, 6)), None),
    ],
)
def test_what_is_no_pair_of_tensors_is_told_with_the_class(found: Any, told: str | None) -> None:
    with pytest.raises(LnmtError, match="must return two tensors of floats: logits and pooled") as caught:
        call_model(Giver(found), INPUTS, "text-classification")
    assert caught.value.where == f"{Giver.__module__}.Giver"
    assert caught.value.allowed == "(logits [B, C], pooled [B, H])"
    assert "return logits, pooled" in str(caught.value.fix)
    assert told in (None, caught.value.value)


def test_a_wrong_number_of_labels_is_told_with_both_shapes() -> None:
    with pytest.raises(LnmtError, match="logits of a wrong shape") as caught:
        call_model(Giver((floats(2, 3), floats(2, 6))), INPUTS, "text-classification")
    assert (caught.value.value, caught.value.allowed) == ([2, 3], "[2, 4] = [B, C]")


def test_states_that_are_not_pooled_are_told() -> None:
    with pytest.raises(LnmtError, match="pooled states of a wrong shape") as caught:
        call_model(Giver((floats(2, 4), floats(2, 3, 6))), INPUTS, "text-classification")
    assert caught.value.value == [2, 3, 6]


def test_both_steps_check_what_forward_gave() -> None:
    batch = TrainingBatch(INPUTS["input_ids"], INPUTS["attention_mask"], torch.tensor([0, 1]), ("a", "b"))
    for step in (Giver(floats(2, 4)).training_step, Giver(floats(2, 4)).validation_step):
        with pytest.raises(LnmtError, match="must return two tensors"):
            step(batch)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "NoneType"),
        (1.5, "float"),
        (floats(2).requires_grad_(), "a tensor torch.float32 [2]"),
        (floats(), "a tensor torch.float32 [] without a gradient"),
    ],
)
def test_a_step_that_gives_no_loss_is_told(found: Any, told: str) -> None:
    with pytest.raises(LnmtError, match="training_step must return the mean loss") as caught:
        check_loss(Giver(None), found)
    assert (caught.value.where, caught.value.value) == (f"{Giver.__module__}.Giver.training_step", told)


def test_a_loss_is_handed_on() -> None:
    loss = nn.Parameter(floats()) * 2
    assert check_loss(Giver(None), loss) is loss


def test_a_compiled_model_is_named_by_its_class() -> None:
    compiled: Any = torch.compile(Giver(floats(2, 4)), backend="eager")
    with pytest.raises(LnmtError, match="must return two tensors") as caught:
        call_model(compiled, INPUTS, "text-classification")
    assert caught.value.where == f"{Giver.__module__}.Giver"
