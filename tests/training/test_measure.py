from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score

from lnmt.params import EvaluateParams
from lnmt.stats import bootstrap
from lnmt.training.measure import Comparison, Measured, compare, measure
from lnmt.training.metrics import metric_names
from lnmt.training.metrics.base import TaskMetrics
from lnmt.training.metrics.classification import LabelMetrics, ScoreMetrics
from lnmt.training.metrics.language import LanguageMetrics
from lnmt.training.metrics.multi_label import LabelSetMetrics, LabelSetScoreMetrics
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.training.metrics.reliability import expected_calibration_error
from lnmt.training.metrics.tags import TagMetrics

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


def measured(labels: NDArray[np.int64], scores: NDArray[np.float64], options: EvaluateParams = OPTIONS) -> Measured:
    return measure(ScoreMetrics(CLASSES), ScoreMetrics.rows(labels, scores), options)


def compared(labels: NDArray[np.int64], model: NDArray[np.int64], baseline: NDArray[np.int64]) -> Comparison:
    first, second = (np.stack([labels, guessed], axis=1).astype(float) for guessed in (model, baseline))
    return compare("baseline", LabelMetrics(CLASSES), first, second, OPTIONS)


def test_points_are_those_of_the_plain_metrics() -> None:
    labels, scores = rows(300, 0)
    guessed = scores.argmax(axis=1)
    found = measured(labels, scores)
    assert found.rows == 300
    assert found.points["accuracy"] == (labels == guessed).mean()
    assert found.points["macro_f1"] == pytest.approx(f1_score(labels, guessed, average="macro"))
    assert found.points["recall.b"] == pytest.approx(recall_score(labels, guessed, average=None)[1])
    assert found.points["ece"] == pytest.approx(expected_calibration_error(scores, labels), rel=1e-12)
    assert found.support == {name: int((labels == place).sum()) for place, name in enumerate(CLASSES)}
    names = metric_names("text-classification", CLASSES)
    assert sorted(found.points) == sorted(found.intervals) == sorted(names)


def test_intervals_hold_their_points_and_the_seed_decides_them() -> None:
    labels, scores = rows(500, 1)
    found = measured(labels, scores)
    for name in LabelMetrics(CLASSES).names:
        assert found.intervals[name].low <= found.points[name] <= found.intervals[name].high
    assert found.intervals == measured(labels, scores).intervals


def test_macro_f1_intervals_cover_the_truth_that_often() -> None:
    truth = measured(*rows(400_000, 99)).points["macro_f1"]
    intervals = [measured(*rows(400, seed)).intervals["macro_f1"] for seed in range(120)]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals)
    assert covered / 120 >= 0.88


def test_the_calibration_errors_interval_can_reach_a_calibrated_models_zero() -> None:
    # Its ECE is above 0 by chance alone, and a percentile interval would never hold the truth.
    found = [measured(*rows(400, seed)) for seed in range(60)]
    assert min(entry.points["ece"] for entry in found) > 0.01
    assert np.mean([entry.intervals["ece"].low <= 1e-9 for entry in found]) >= 0.55


def test_the_calibration_errors_interval_covers_an_overconfident_models_that_often() -> None:
    def overconfident(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        labels, scores = rows(count, seed)
        return labels, scores**3 / (scores**3).sum(axis=1, keepdims=True)

    labels, scores = overconfident(400_000, 99)
    truth = expected_calibration_error(scores, labels)
    assert truth > 0.2
    intervals = [measured(*overconfident(400, seed)).intervals["ece"] for seed in range(100)]
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
    found = compared(labels, model, baseline)
    assert found.baseline.points["accuracy"] == pytest.approx(1 / 3)
    assert found.gains["accuracy"] == pytest.approx(2 / 3)
    assert found.gains["macro_f1"] == pytest.approx(1 - 0.5 / 3)
    assert found.gain_intervals["accuracy"].low > 0.6
    assert "ece" not in found.gains


def test_a_baseline_that_is_the_model_gains_exactly_nothing() -> None:
    labels, scores = rows(200, 5)
    guessed = scores.argmax(axis=1)
    found = compared(labels, guessed, guessed)
    assert found.gains["macro_f1"] == 0.0
    assert found.gain_intervals["macro_f1"].as_list() == [0.0, 0.0]


def test_two_hundred_thousand_rows_take_no_longer_than_few() -> None:
    labels, scores = rows(200_000, 6)
    found = measured(labels, scores)
    interval = found.intervals["accuracy"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 200_000), rel=0.2)


def task_rows(metrics: TaskMetrics, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows of any task's metrics, as its outputs could make them."""
    if isinstance(metrics, LabelMetrics):
        labels, scores = rows(count, int(rng.integers(1 << 30)))
        return ScoreMetrics.rows(labels, scores)
    if isinstance(metrics, LabelSetMetrics):
        has = (rng.random((count, 3)) < 0.4).astype(float)
        return LabelSetMetrics.rows(has, np.clip(has * 0.5 + rng.random((count, 3)) * 0.6, 0, 1))
    if isinstance(metrics, NumberMetrics):
        actual = rng.normal(size=count)
        return NumberMetrics.rows(actual, actual + rng.normal(size=count), 0.0)
    if isinstance(metrics, TagMetrics):
        lengths = rng.integers(1, 9, count)
        tags = rng.integers(0, 5, int(lengths.sum()))
        return metrics.rows(tags, np.where(rng.random(len(tags)) < 0.8, tags, 0), lengths)
    tokens = rng.integers(1, 30, count)
    return np.column_stack([tokens * rng.normal(3, 1, count), tokens, 4 * tokens, rng.binomial(tokens, 0.3)])


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ALL_METRICS = (
    ScoreMetrics(CLASSES),
    LabelSetScoreMetrics(CLASSES),
    NumberMetrics(),
    TagMetrics(TAGS),
    LanguageMetrics(),
)


@pytest.mark.parametrize("metrics", ALL_METRICS, ids=lambda metrics: type(metrics).__name__)
def test_every_tasks_intervals_are_those_of_resampled_rows(metrics: TaskMetrics) -> None:
    rng = np.random.default_rng(3)
    split = task_rows(metrics, 300, rng)
    found = measure(metrics, split, OPTIONS)
    drawn = np.array([metrics.metrics(metrics.total(split[rng.integers(0, 300, 300)])) for _ in range(400)])
    for place, name in enumerate(metrics.names):
        if name != "ece":  # mirrored
            plain = np.quantile(drawn[:, place], [0.025, 0.975])
            assert found.intervals[name].as_list() == pytest.approx(plain, abs=0.35 * (plain[1] - plain[0]) + 1e-9), (
                name
            )


@pytest.mark.parametrize("metrics", ALL_METRICS, ids=lambda metrics: type(metrics).__name__)
def test_a_model_gains_what_its_metrics_say_and_lower_may_be_better(metrics: TaskMetrics) -> None:
    rng = np.random.default_rng(4)
    model, baseline = task_rows(metrics, 200, rng), task_rows(metrics, 200, rng)
    names = metrics.compared.names
    found = compare("other", metrics.compared, model, baseline, OPTIONS)
    first, second = (metrics.compared.points(metrics.compared.total(each)) for each in (model, baseline))
    lower = {"mae", "rmse", "loss", "perplexity", "bits_per_byte", "hamming_loss"}
    assert found.gains == {name: (second[name] - first[name]) * (1 if name in lower else -1) for name in names}
    twin = compare("twin", metrics.compared, model, model, OPTIONS)
    assert {name: interval.as_list() for name, interval in twin.gain_intervals.items()} == {
        name: [0, 0] for name in names
    }


def test_few_samples_at_a_time_give_intervals_as_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    split = task_rows(NumberMetrics(), 1000, np.random.default_rng(5))
    whole = measure(NumberMetrics(), split, OPTIONS).intervals["rmse"]
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 400 * 64)  # 16 blocks of 64 rows
    parts = measure(NumberMetrics(), split, OPTIONS).intervals["rmse"]
    assert parts != whole
    assert parts.high - parts.low == pytest.approx(whole.high - whole.low, rel=0.2)
