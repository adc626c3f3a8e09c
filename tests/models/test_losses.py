from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from lnmt.models.losses import IGNORED, count_targets, task_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
WEIGHTS = torch.tensor([1.0, 2.0, 5.0])


def test_classification_is_the_mean_cross_entropy() -> None:
    shares = LOGITS.log_softmax(dim=1)
    loss = task_loss("text-classification", LOGITS, torch.tensor([0, 2]))
    assert float(loss) == pytest.approx(-float(shares[0, 0] + shares[1, 2]) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_smoothing_and_weights_are_those_of_torch(smoothing: float, weights: torch.Tensor | None) -> None:
    labels = torch.tensor([0, 2])
    loss = task_loss("text-classification", LOGITS, labels, label_smoothing=smoothing, class_weights=weights)
    expected = functional.cross_entropy(LOGITS, labels, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_tokens_without_a_label_do_not_count(smoothing: float, weights: torch.Tensor | None) -> None:
    logits = torch.stack([LOGITS, LOGITS.flip(1)])  # [2, 2, 3]
    labels = torch.tensor([[IGNORED, 2], [1, IGNORED]])
    loss = task_loss("token-classification", logits, labels, label_smoothing=smoothing, class_weights=weights)
    kept = torch.stack([logits[0, 1], logits[1, 0]])
    expected = functional.cross_entropy(kept, torch.tensor([2, 1]), weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    assert count_targets("token-classification", labels) == 2


def test_generation_holds_each_token_against_the_next() -> None:
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, 3, 4], [5, 6, IGNORED, IGNORED]])
    shares = logits.log_softmax(dim=2)
    expected = -(shares[0, 0, 2] + shares[0, 1, 3] + shares[0, 2, 4] + shares[1, 0, 6]) / 4
    torch.testing.assert_close(task_loss("text-generation", logits, labels), expected)
    assert count_targets("text-generation", labels) == 4


@pytest.mark.parametrize("task", ["token-classification", "text-generation"])
def test_a_batch_without_a_label_has_loss_0_and_no_gradient(task: str) -> None:
    logits = torch.randn(2, 1, 3, requires_grad=True)
    loss = task_loss(task, logits, torch.full((2, 1), IGNORED))  # type: ignore[arg-type]
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 1, 3))


def test_multi_label_judges_each_label_alone() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    def cost(logit: float, target: float, weight: float = 1.0) -> float:
        share = 1 / (1 + math.exp(-logit))
        return -weight * target * math.log(share) - (1 - target) * math.log(1 - share)

    plain = (cost(0, 1) + cost(2, 0) + cost(-1, 0) + cost(1, 1)) / 4
    assert float(task_loss("multi-label-classification", logits, labels)) == pytest.approx(plain)
    smooth = (cost(0, 0.9) + cost(2, 0.1) + cost(-1, 0.1) + cost(1, 0.9)) / 4
    found = task_loss("multi-label-classification", logits, labels, label_smoothing=0.2)
    assert float(found) == pytest.approx(smooth)
    weighed = (cost(0, 1, 3) + cost(2, 0) + cost(-1, 0) + cost(1, 1, 4)) / 4
    found = task_loss("multi-label-classification", logits, labels, class_weights=torch.tensor([3.0, 4.0]))
    assert float(found) == pytest.approx(weighed)
    assert count_targets("multi-label-classification", labels) == 2


def test_regression_is_the_mean_square_in_standard_deviations() -> None:
    logits, targets = torch.tensor([[10.0], [30.0]]), torch.tensor([14.0, 24.0])
    assert float(task_loss("text-regression", logits, targets, target_std=2.0)) == (16 + 36) / 2 / 4


def test_half_precision_logits_are_summed_in_fp32() -> None:
    logits = LOGITS.to(torch.bfloat16)
    loss = task_loss("text-classification", logits, torch.tensor([0, 2]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(logits.float(), torch.tensor([0, 2])))
