from __future__ import annotations

import numpy as np
import pytest
import torch

from lnmt.models.losses import IGNORED, task_loss
from lnmt.training.metrics.language import LanguageMetrics, score_tokens


def test_metrics_of_two_rows() -> None:
    metrics = LanguageMetrics()
    rows = np.array([[6.0, 2, 10, 1], [2.0, 2, 6, 2]])
    found = metrics.points(metrics.total(rows))
    assert found["loss"] == 2.0
    assert found["perplexity"] == pytest.approx(np.exp(2))
    assert found["bits_per_byte"] == pytest.approx(8 / np.log(2) / 16)
    assert found["token_accuracy"] == 0.75


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    metrics = LanguageMetrics()
    assert np.isfinite(metrics.points(np.array([1e6, 1.0, 1.0, 0.0]))["perplexity"])
    assert metrics.points(np.zeros(4)) == {"loss": 0, "perplexity": 1, "bits_per_byte": 0, "token_accuracy": 0}


def test_tokens_are_predicted_from_those_before_them() -> None:
    logits = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [1.0, 1.0, 1.0]]]))
    found = score_tokens(logits, torch.tensor([[2, 0, 1]]), torch.tensor([[1, 1, 1]]))
    assert found[0] == pytest.approx([-np.log(0.7) - np.log(0.3), 2, 1])


def test_padding_is_not_predicted_and_the_mean_is_the_tasks_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 9)
    tokens = torch.randint(0, 9, (4, 6))
    mask = (torch.arange(6) < torch.tensor([[6], [3], [1], [0]])).long()
    found = score_tokens(logits, tokens, mask)
    assert found[:, 1].tolist() == [5, 2, 0, 0]
    nats, predicted, _ = found.sum(axis=0)
    labels = tokens.masked_fill(mask == 0, IGNORED)
    assert nats / predicted == pytest.approx(float(task_loss("text-generation", logits, labels)), rel=1e-6)
