from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.models.structure import add_operation
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.teacher import Answers, Teacher, answer_rows, soft_loss, state_loss, teach, watch
from lnmt.types import IGNORED, Task
from tests.task_bundle import task_bundle
from tests.tiny_bundle import tiny_bundle
from tests.training.training_kit import tiny_examples

LAYER = "encoder.encoder.layer"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("teacher") / "bundle")


@pytest.fixture
def batch(bundle: Bundle) -> TrainingBatch:
    return to_batch(tiny_examples(12), np.arange(12), Tokenizer(bundle.file("tokenizer.json"), 20))


def rows_of(labels: Tensor, mask: list[list[int]]) -> TrainingBatch:
    return TrainingBatch(torch.zeros(len(mask), len(mask[0]), dtype=torch.int64), torch.tensor(mask), labels, ())


def student_of(bundle: Bundle) -> BaseModel:
    """Another model than the teacher, without dropout."""
    model = load_model(bundle)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return still(model)


def still(model: BaseModel) -> BaseModel:
    """In training mode, without dropout."""
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attn_pdrop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def test_soft_labels_count_by_the_squared_temperature() -> None:
    student, teacher = (
        torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]]),
        torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]]),
    )
    p, q = (teacher / 2).softmax(1).double(), (student / 2).softmax(1).double()
    expected = 4 * float((p * (p / q).log()).sum()) / 2
    batch = rows_of(torch.tensor([0, 1]), [[1], [1]])
    assert float(soft_loss("text-classification", student, teacher, batch, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_regression_learns_the_number_in_the_targets_unit() -> None:
    batch = rows_of(torch.tensor([0.0, 0.0]), [[1], [1]])
    found = soft_loss("text-regression", torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [4.0]]), batch, 2.0, 2.0)
    assert float(found) == 0.5  # (2² + 0²) / 2 rows / 2²


def test_only_labelled_tokens_are_learnt_of_tags() -> None:
    student, teacher = torch.randn(1, 3, 2), torch.randn(1, 3, 2)
    labels = torch.tensor([[IGNORED, 1, IGNORED]])
    found = soft_loss("token-classification", student, teacher, rows_of(labels, [[1, 1, 1]]), 2.0)
    alone = soft_loss("text-classification", student[:, 1], teacher[:, 1], rows_of(labels[:, 1], [[1]]), 2.0)
    assert float(found) == pytest.approx(float(alone), rel=1e-6)


def test_a_batch_without_labelled_tokens_teaches_nothing() -> None:
    logits = torch.randn(1, 2, 3, requires_grad=True)
    labels = torch.full((1, 2), IGNORED)
    found = soft_loss("token-classification", logits, torch.randn(1, 2, 3), rows_of(labels, [[1, 1]]), 2.0)
    found.backward()  # type: ignore[no-untyped-call]
    assert float(found.detach()) == 0.0


def test_of_texts_every_token_but_the_last_foretells() -> None:
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    labels = torch.zeros(2, 3, dtype=torch.int64)
    found = soft_loss("text-generation", student, teacher, rows_of(labels, [[1, 1, 1], [1, 1, 0]]), 1.0)
    kept = [(0, 0), (0, 1), (1, 0)]
    each = [
        soft_loss("text-classification", student[[r], t], teacher[[r], t], rows_of(labels, [[1]]), 1.0) for r, t in kept
    ]
    assert float(found) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


@pytest.mark.parametrize("task", ["text-classification", "multi-label-classification", "text-regression"])
def test_who_says_the_same_has_no_loss(task: Task) -> None:
    logits = torch.randn(5, 1 if task == "text-regression" else 3)
    batch = rows_of(torch.zeros(5), [[1]] * 5)
    assert float(soft_loss(task, logits, logits, batch, 3.0)) == pytest.approx(0.0, abs=1e-6)


def test_states_are_compared_where_tokens_are() -> None:
    student, teacher, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([[1, 1, 1], [1, 0, 0]])
    real = mask.bool()
    expected = functional.mse_loss(student[real], teacher[real]) / teacher[real].square().mean()
    changed = teacher.clone()
    changed[1, 1:] = 1e6
    assert float(state_loss(student, changed, mask)) == pytest.approx(float(expected), rel=1e-6)


def test_states_of_another_width_are_compared_by_their_angles() -> None:
    teacher, mask = torch.randn(2, 3, 4), torch.tensor([[1, 1, 1], [1, 1, 0]])
    turned = torch.linalg.qr(torch.randn(6, 4)).Q  # orthonormal: lengths and angles stay
    assert float(state_loss(7 * teacher @ turned.T, teacher, mask)) == pytest.approx(0.0, abs=1e-10)
    assert float(state_loss(torch.randn(2, 3, 6), teacher, mask)) > 1e-3


def test_the_loss_is_the_labels_and_the_teachers(bundle: Bundle, batch: TrainingBatch) -> None:
    student, teacher = student_of(bundle), load_model(bundle)
    task = student.training_step(batch)
    logits = student(batch.inputs)[0]
    soft = soft_loss("text-classification", logits, teacher(batch.inputs)[0], batch, 3.0)
    teach(student, Teacher(bundle, weight=0.25, temperature=3.0))
    found = student.training_step(batch)
    assert float(found.detach()) == pytest.approx(float((0.75 * task + 0.25 * soft).detach()), rel=1e-5)


def test_a_teacher_is_no_part_of_the_student(bundle: Bundle, batch: TrainingBatch) -> None:
    student = student_of(bundle)
    names, kind = list(student.state_dict()), type(student)
    teach(student, Teacher(bundle))
    assert list(student.state_dict()) == names
    assert isinstance(student, kind)
    assert student.describe("encoder_classifier") == load_model(bundle).describe("encoder_classifier")
    student.training_step(batch).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in student.lesson.master.parameters())  # type: ignore[union-attr]


def test_packed_states_are_compared_with_the_teachers(bundle: Bundle, batch: TrainingBatch) -> None:
    student, teacher = student_of(bundle), load_model(bundle)
    hidden = {f"{LAYER}.0": f"{LAYER}.1"}
    with watch(student, hidden) as ours, watch(teacher, {f"{LAYER}.1"}) as theirs:
        task = student.training_step(batch)
        teacher(batch.inputs)
    expected = state_loss(ours.states[f"{LAYER}.0"], theirs.states[f"{LAYER}.1"], batch.attention_mask)
    with watch(student.eval(), hidden) as unpacked:
        student(batch.inputs)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(
        ours.states[f"{LAYER}.0"][real], unpacked.states[f"{LAYER}.0"][real], rtol=1e-4, atol=1e-5
    )
    teach(student.train(), Teacher(bundle, weight=0.0, hidden=hidden, hidden_weight=2.0))
    found = student.training_step(batch)
    assert float(found.detach()) == pytest.approx(float((task + 2 * expected).detach()), rel=1e-5)


def test_answers_of_before_are_those_of_now(bundle: Bundle, batch: TrainingBatch) -> None:
    examples, tokenizer = tiny_examples(12), Tokenizer(bundle.file("tokenizer.json"), 20)
    answers = answer_rows(bundle, examples, tokenizer, Progress(show=False))
    turned = Answers(answers.logits[::-1].copy(), list(examples.ids)[::-1])  # found by their rows' names
    losses = []
    for known in (None, answers, turned):
        student = student_of(bundle)
        teach(student, Teacher(bundle, answers=known))
        losses.append(float(student.training_step(batch).detach()))
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)


def test_answers_may_be_computed_in_low_precision(bundle: Bundle) -> None:
    tokenizer, progress = Tokenizer(bundle.file("tokenizer.json"), 20), Progress(show=False)
    exact, rounded = (
        answer_rows(bundle, tiny_examples(8), tokenizer, progress, precision).logits for precision in ("fp32", "bf16")
    )
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.1)


@pytest.mark.parametrize(
    "task", ["multi-label-classification", "text-regression", "token-classification", "text-generation"]
)
def test_every_task_has_a_loss_that_teaches(task: Task, tmp_path: Path) -> None:
    bundle = task_bundle(tmp_path / "bundle", task)
    model = still(load_model(bundle))
    inputs = to_batch(tiny_examples(4), np.arange(4), Tokenizer(bundle.file("tokenizer.json"), 20))
    ids = inputs.input_ids % 30
    labels: dict[str, Any] = {
        "multi-label-classification": torch.ones(4, model.labels),
        "text-regression": torch.arange(4.0),
        "token-classification": torch.zeros_like(ids),
        "text-generation": ids,
    }
    batch = TrainingBatch(ids, inputs.attention_mask, labels[task], inputs.ids)
    alone = float(model.training_step(batch).detach())
    with torch.no_grad():  # it says the same as the teacher: half of the labels' loss is left
        teach(model, Teacher(bundle, weight=0.5))
        assert float(model.training_step(batch)) == pytest.approx(alone / 2, rel=1e-3, abs=1e-5)


def test_a_student_of_fewer_blocks_has_its_own_names(bundle: Bundle, batch: TrainingBatch) -> None:
    student = student_of(bundle)
    add_operation(student, {"kind": "drop", "module": LAYER, "keep": [1]})
    with pytest.raises(LnmtError, match="no such module") as caught:
        teach(student, Teacher(bundle, hidden={f"{LAYER}.1": f"{LAYER}.1"}))
    assert caught.value.value == f"{LAYER}.1"


def test_a_teacher_of_other_labels_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", labels=("no", "yes"))
    with pytest.raises(LnmtError, match="answers another question") as caught:
        teach(load_model(bundle), Teacher(other))
    assert (caught.value.value, caught.value.allowed) == (
        "text-classification, 2 labels",
        "text-classification, 3 labels",
    )


def test_a_step_that_does_not_call_its_model_learns_nothing_from_others(bundle: Bundle, batch: TrainingBatch) -> None:
    student = load_model(bundle)
    kind = type(student)
    step = {"training_step": lambda self, batch: self.head.weight.sum()}
    student.__class__ = type("Own", (kind,), step)
    teach(student, Teacher(bundle))
    with pytest.raises(LnmtError, match="must call its forward in training_step"):
        student.training_step(batch)
