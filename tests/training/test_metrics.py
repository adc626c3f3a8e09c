from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, precision_recall_fscore_support

from lnmt.errors import UnknownName
from lnmt.training.metrics import (
    classification_metrics,
    confidence_bin,
    encode,
    expected_calibration_error,
    macro_f1,
    reliability_bins,
)

CLASSES = ["negative", "neutral", "positive"]


def test_metrics_of_six_rows() -> None:
    labels = ["negative", "negative", "negative", "neutral", "neutral", "positive"]
    predicted = ["negative", "negative", "neutral", "neutral", "positive", "positive"]
    found = classification_metrics(labels, predicted, CLASSES)
    assert found["rows"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found["per_class"]["negative"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert found["per_class"]["neutral"]["f1"] == 0.5
    assert found["per_class"]["positive"]["f1"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


labels_and_guesses = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(labels_and_guesses)
def test_the_same_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = classification_metrics(labels, predicted, range(4))
    assert found["confusion"] == sklearn_confusion(labels, predicted, labels=range(4)).tolist()
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(4), zero_division=0
    )
    for index in range(4):
        assert found["per_class"][str(index)] == {
            "precision": pytest.approx(precision[index]),
            "recall": pytest.approx(recall[index]),
            "f1": pytest.approx(f1[index]),
            "support": support[index],
        }


def test_a_class_that_does_not_occur_is_not_averaged() -> None:
    assert classification_metrics(["a", "b"], ["a", "b"], ["a", "b", "c"])["macro_f1"] == 1.0


def test_no_rows_are_zero() -> None:
    found = classification_metrics([], [], CLASSES)
    assert (found["rows"], found["accuracy"], found["macro_f1"]) == (0, 0.0, 0.0)


def test_metrics_work_on_many_samples_at_once() -> None:
    hits = np.array([[[1, 1]], [[2, 0]]])
    actual = np.array([[[1, 1]], [[2, 2]]])
    assert macro_f1(hits, actual, actual).tolist() == [[1.0], [0.5]]


def test_a_label_outside_the_set_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown label 'positiv'") as caught:
        encode(["neutral", "positiv"], CLASSES, where="data/processed/test")
    assert caught.value.fix == "did you mean 'positive'?"
    assert caught.value.where == "data/processed/test"


def test_calibration_error_of_two_bins() -> None:
    # Three rows at confidence 0.9, two right; one row at 0.6, wrong.
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])
    expected = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * abs(0 - 0.6)
    assert expected_calibration_error(scores, labels) == pytest.approx(expected)
    filled = [entry for entry in reliability_bins(scores, labels) if entry.rows]
    assert [entry.rows for entry in filled] == [1, 3]
    assert filled[1].accuracy == pytest.approx(2 / 3)
    assert filled[1].confidence == pytest.approx(0.9)
    assert [filled[1].low, filled[1].high] == pytest.approx([13 / 15, 14 / 15])


def test_sure_and_right_is_calibrated_sure_and_wrong_is_not() -> None:
    scores = np.eye(2)[[0, 1, 1]]
    assert expected_calibration_error(scores, np.array([0, 1, 1])) == 0.0
    assert expected_calibration_error(scores, np.array([1, 0, 0])) == 1.0
    assert expected_calibration_error(np.empty((0, 2)), np.empty(0, dtype=np.int64)) == 0


def test_bins_hold_their_upper_end() -> None:
    found = confidence_bin(np.array([0.0, 1e-9, 0.5, 0.500001, 1.0, 1.0000001]), 2)
    assert found.tolist() == [0, 0, 0, 1, 1, 1]
