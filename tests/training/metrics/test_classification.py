from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, precision_recall_fscore_support

from lnmt.errors import UnknownName
from lnmt.training.metrics.classification import LabelMetrics, ScoreMetrics, confusion_matrix, encode, macro_f1
from lnmt.training.metrics.reliability import expected_calibration_error

CLASSES = ["negative", "neutral", "positive"]


def points(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str] = CLASSES) -> dict[str, float]:
    metrics = LabelMetrics(classes)
    rows = np.stack([encode(labels, classes), encode(predicted, classes)], axis=1)
    return metrics.points(metrics.total(rows.astype(float)))


def test_metrics_of_six_rows() -> None:
    labels = ["negative", "negative", "negative", "neutral", "neutral", "positive"]
    predicted = ["negative", "negative", "neutral", "neutral", "positive", "positive"]
    found = points(labels, predicted)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["precision.negative"] == 1.0
    assert found["recall.negative"] == pytest.approx(2 / 3)
    assert found["f1.negative"] == pytest.approx(0.8)
    assert found["f1.neutral"] == 0.5
    assert found["f1.positive"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    both = encode(labels, CLASSES), encode(predicted, CLASSES)
    assert confusion_matrix(*both, 3).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


labels_and_guesses = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=60)


@given(labels_and_guesses)
def test_the_same_as_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    labels, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = points(labels, predicted, "abcd")
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    scores = precision_recall_fscore_support(labels, predicted, labels=list("abcd"), zero_division=0)
    for kind, expected in zip(("precision", "recall", "f1"), scores, strict=False):
        assert [found[f"{kind}.{label}"] for label in "abcd"] == pytest.approx(expected)
    places = encode(labels, "abcd"), encode(predicted, "abcd")
    assert (confusion_matrix(*places, 4) == sklearn_confusion(labels, predicted, labels=list("abcd"))).all()


def test_a_class_that_does_not_occur_is_not_averaged() -> None:
    assert points(["a", "b"], ["a", "b"], ["a", "b", "c"])["macro_f1"] == 1.0


def test_no_rows_are_zero() -> None:
    assert set(points([], []).values()) == {0.0}


def test_metrics_work_on_many_samples_at_once() -> None:
    hits = np.array([[[1, 1]], [[2, 0]]])
    actual = np.array([[[1, 1]], [[2, 2]]])
    assert macro_f1(hits, actual, actual).tolist() == [[1.0], [0.5]]


def test_a_label_outside_the_set_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown label 'positiv'") as caught:
        encode(["neutral", "positiv"], CLASSES, where="data/processed/test")
    assert caught.value.fix == "did you mean 'positive'?"
    assert caught.value.where == "data/processed/test"


def test_statistics_add_up_to_the_metrics_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    actual, scores = rng.integers(0, 3, 50), rng.dirichlet(np.ones(3), 50)
    metrics = ScoreMetrics(CLASSES)
    rows = metrics.rows(actual, scores)
    found = metrics.points(metrics.total(rows[:20]) + metrics.total(rows[20:]))
    named = [[CLASSES[place] for place in places] for places in (actual, scores.argmax(axis=1))]
    assert metrics.compared.points(metrics.compared.total(rows)) == points(*named)
    assert {name: found[name] for name in metrics.compared.names} == points(*named)
    assert found["ece"] == pytest.approx(expected_calibration_error(scores, actual), rel=1e-12)


def test_rows_of_like_confidence_share_a_cell_but_not_those_of_other_answers() -> None:
    rows = np.array([[0, 1, 0.90001], [0, 1, 0.90002], [0, 1, 0.8], [1, 1, 0.9]])
    assert len(np.unique(ScoreMetrics(CLASSES).coarse(rows), axis=0)) == 3
