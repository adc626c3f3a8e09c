from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import f1_score, hamming_loss, precision_recall_fscore_support

from lnmt.training.metrics.multi_label import LabelSetMetrics, LabelSetScoreMetrics

LABELS = ["film", "phone", "price"]


def points(actual: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, float]:
    metrics = LabelSetScoreMetrics(LABELS)
    return metrics.points(metrics.total(metrics.rows(actual, scores)))


def test_metrics_of_four_rows() -> None:
    actual = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0.0]])
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.2, 0.6, 0.49]])
    found = points(actual, scores)  # predicted: film; film; price; phone
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert found["f1.film"] == 1.0
    assert (found["precision.phone"], found["recall.phone"]) == (1.0, 0.5)
    assert (found["precision.price"], found["recall.price"], found["f1.price"]) == (0.0, 0.0, 0.0)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["subset_accuracy"] == 0.5
    assert found["hamming_loss"] == pytest.approx(2 / 12)


hot = arrays(np.float64, st.tuples(st.integers(1, 30), st.just(6)), elements=st.sampled_from([0.0, 1.0]))


@given(hot)
def test_the_same_as_scikit_learn(both: NDArray[np.float64]) -> None:
    actual, predicted = np.split(both, 2, axis=1)
    found = points(actual, predicted)
    precision, recall, f1, _ = precision_recall_fscore_support(actual, predicted, zero_division=0)
    assert found["micro_f1"] == pytest.approx(f1_score(actual, predicted, average="micro", zero_division=0))
    assert [found[f"precision.{label}"] for label in LABELS] == pytest.approx(precision)
    assert [found[f"recall.{label}"] for label in LABELS] == pytest.approx(recall)
    occurs = (actual + predicted).sum(axis=0) > 0  # scikit-learn counts labels that do not occur as 0
    assert found["macro_f1"] == pytest.approx(f1[occurs].mean() if occurs.any() else 0.0)
    assert found["hamming_loss"] == pytest.approx(hamming_loss(actual, predicted))
    assert found["subset_accuracy"] == pytest.approx((actual == predicted).all(axis=1).mean())


def test_calibration_is_of_each_decision() -> None:
    actual = np.array([[1, 0, 0], [0, 0, 0.0]])
    scores = np.array([[0.9, 0.1, 0.1], [0.9, 0.1, 0.1]])
    assert points(actual, scores)["ece"] == pytest.approx((2 * abs(0.5 - 0.9) + 4 * abs(0 - 0.1)) / 6)


def test_baselines_are_compared_by_decisions_alone() -> None:
    metrics = LabelSetScoreMetrics(LABELS)
    assert type(metrics.compared) is LabelSetMetrics
    rows = metrics.rows(np.ones((2, 3)), np.array([[0.5, 0.6, 0.7], [0.9, 0.8, 0.7]]))
    assert len(np.unique(metrics.compared.coarse(rows), axis=0)) == 1
    assert len(np.unique(metrics.coarse(rows), axis=0)) == 2


def test_no_rows_are_zero() -> None:
    assert set(points(np.empty((0, 3)), np.empty((0, 3))).values()) == {0.0}
