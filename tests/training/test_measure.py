from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.params import EvaluateParams
from lnmt.training.measure import compare, measure, metric_names, rate_names
from lnmt.training.metrics import classification_metrics, expected_calibration_error

CLASSES = ["a", "b", "c"]
OPTIONS = EvaluateParams(
    baselines=[], slices=[], length_edges=[], min_slice_rows=1, bootstrap_samples=400, confidence=0.95, seed=7
)


def rows(count: int, seed: int, accuracy: float = 0.7) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and scores that put `accuracy` or more on a label that is right that often: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    confidence = rng.uniform(accuracy - 0.2, accuracy + 0.2, count)
    right = rng.random(count) < confidence
    guessed = np.where(right, labels, (labels + rng.integers(1, 3, count)) % 3)
    scores = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    scores[np.arange(count), guessed] = confidence
    return labels, scores


def test_points_are_those_of_the_plain_metrics() -> None:
    labels, scores = rows(300, 0)
    found = measure(labels, scores, CLASSES, OPTIONS)
    plain = classification_metrics(labels.tolist(), scores.argmax(axis=1).tolist(), range(3))
    assert found.rows == 300
    assert found.points["accuracy"] == plain["accuracy"]
    assert found.points["macro_f1"] == plain["macro_f1"]
    assert found.points["recall.b"] == plain["per_class"]["1"]["recall"]
    assert found.points["ece"] == expected_calibration_error(scores, labels)
    assert found.confusion.tolist() == plain["confusion"]
    assert sorted(found.points) == sorted(found.intervals) == sorted(metric_names(CLASSES))


def test_intervals_hold_their_points_and_the_seed_decides_them() -> None:
    labels, scores = rows(500, 1)
    found = measure(labels, scores, CLASSES, OPTIONS)
    for name in rate_names(CLASSES):
        assert found.intervals[name].low <= found.points[name] <= found.intervals[name].high
    assert found.intervals == measure(labels, scores, CLASSES, OPTIONS).intervals


def test_macro_f1_intervals_cover_the_truth_that_often() -> None:
    truth = measure(*rows(400_000, 99), CLASSES, OPTIONS).points["macro_f1"]
    intervals = [measure(*rows(400, seed), CLASSES, OPTIONS).intervals["macro_f1"] for seed in range(120)]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals)
    assert covered / 120 >= 0.88


def test_the_calibration_errors_interval_can_reach_a_calibrated_models_zero() -> None:
    # Its ECE is above 0 by chance alone, and a percentile interval would never hold the truth.
    found = [measure(*rows(400, seed), CLASSES, OPTIONS) for seed in range(60)]
    assert min(entry.points["ece"] for entry in found) > 0.01
    assert np.mean([entry.intervals["ece"].low <= 1e-9 for entry in found]) >= 0.55


def test_the_calibration_errors_interval_covers_an_overconfident_models_that_often() -> None:
    def overconfident(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        labels, scores = rows(count, seed)
        return labels, scores**3 / (scores**3).sum(axis=1, keepdims=True)

    labels, scores = overconfident(400_000, 99)
    truth = expected_calibration_error(scores, labels)
    assert truth > 0.2
    intervals = [measure(*overconfident(400, seed), CLASSES, OPTIONS).intervals["ece"] for seed in range(100)]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals)
    assert covered >= 90


def test_confidence_cells_change_the_bootstrapped_calibration_error_by_nothing_that_matters() -> None:
    labels, scores = rows(2000, 4)
    exact = expected_calibration_error(scores, labels)
    fine = (np.floor(scores.max(axis=1) * 600) + 0.5) / 600
    rounded = np.repeat(((1 - fine) / 2)[:, None], 3, axis=1)
    rounded[np.arange(2000), scores.argmax(axis=1)] = fine
    assert expected_calibration_error(rounded, labels) == pytest.approx(exact, abs=1e-3)


def test_a_baseline_is_compared_on_the_same_rows() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2] * 40)
    model = labels.copy()
    baseline = np.zeros_like(labels)
    found = compare("majority", labels, model, baseline, CLASSES, OPTIONS)
    assert found.baseline.points["accuracy"] == pytest.approx(1 / 3)
    assert found.gains["accuracy"] == pytest.approx(2 / 3)
    assert found.gains["macro_f1"] == pytest.approx(1 - 0.5 / 3)
    assert found.gain_intervals["accuracy"].low > 0.6
    assert "ece" not in found.gains


def test_a_baseline_that_is_the_model_gains_exactly_nothing() -> None:
    labels, scores = rows(200, 5)
    guessed = scores.argmax(axis=1)
    found = compare("twin", labels, guessed, guessed, CLASSES, OPTIONS)
    assert found.gains["macro_f1"] == 0.0
    assert found.gain_intervals["macro_f1"].as_list() == [0.0, 0.0]


def test_two_hundred_thousand_rows_take_no_longer_than_few() -> None:
    labels, scores = rows(200_000, 6)
    found = measure(labels, scores, CLASSES, OPTIONS)
    interval = found.intervals["accuracy"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 200_000), rel=0.2)
