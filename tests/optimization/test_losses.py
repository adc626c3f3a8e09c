from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnmt.data.labels import parse_labels
from lnmt.optimization.answers import Answers, Validation, collect
from lnmt.optimization.losses import LARGEST_NATS, metric_loss, text_flips, text_losses, whole_losses
from lnmt.optimization.parity import compare_answers
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from lnmt.training.metrics.multi_label import LabelSetMetrics
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.training.metrics.tags import NO_TAG, TagMetrics
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import TASKS, task_rows


def split(task: Task, targets: Any, labels: list[str] | None = None) -> Validation:
    """A split whose texts nobody looks at."""
    rows = [str(row) for row in range(len(targets))]
    return Validation(task, labels or [], rows, rows, targets, Path("test"))


def of_labels(predicted: list[int], actual: list[int]) -> Answers:
    best = np.array(predicted)
    return Answers(np.eye(3, dtype=np.float32)[best], best[:, None], np.column_stack([actual, best]).astype(np.float64))


def of_sets(scores: list[list[float]], actual: Any) -> Answers:
    array = np.array(scores)
    return Answers(array.astype(np.float32), (array >= 0.5).astype(np.int64), LabelSetMetrics.rows(actual, array))


def of_numbers(values: list[float], actual: Any) -> Answers:
    numbers = np.array(values, dtype=np.float32)
    scored = NumberMetrics.rows(actual, numbers, centre=float(np.mean(actual)))
    return Answers(numbers[:, None], np.empty((len(numbers), 0), np.int64), scored)


def of_tokens(losses: list[list[float]], likeliest: list[int]) -> Answers:
    scored = [(sum(own), len(own), 9, 0) for own in losses]
    flat = np.array([value for own in losses for value in own], dtype=np.float32)
    return Answers(flat[:, None], np.array(likeliest)[:, None], np.array(scored, dtype=np.float64))


TAGS = ["O", "B-PER", "I-PER"]


def of_tags(places: list[int], actual: list[int], lengths: list[int]) -> Answers:
    tags = np.array(places)
    scored = TagMetrics(TAGS).rows(np.array(actual), tags, np.array(lengths))
    known = tags[tags != NO_TAG]
    return Answers(np.eye(3, dtype=np.float32)[known], tags[:, None], scored)


def test_a_label_is_right_or_wrong() -> None:
    actual, labels = [0, 1, 2, 1], ["a", "b", "c"]
    validation = split("text-classification", np.array(actual), labels)
    reference, candidate = of_labels([0, 1, 2, 0], actual), of_labels([0, 2, 2, 2], actual)
    assert text_losses(reference, validation).tolist() == [0, 0, 0, 1]
    assert text_losses(candidate, validation).tolist() == [0, 1, 0, 1]
    flips = text_flips(reference, candidate, validation)
    assert flips.dtype == np.bool_
    assert flips.tolist() == [False, True, False, True]


def test_of_several_labels_the_share_that_is_wrong() -> None:
    actual = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], dtype=np.float32)
    validation = split("multi-label-classification", actual, ["a", "b", "c", "d"])
    reference = of_sets([[0.9, 0.1, 0.5, 0.1], [0.1, 0.1, 0.1, 0.1]], actual)
    candidate = of_sets([[0.4, 0.6, 0.5, 0.1], [0.1, 0.1, 0.1, 0.5]], actual)
    assert text_losses(reference, validation).tolist() == [0, 0]
    assert text_losses(candidate, validation).tolist() == [0.5, 0.25]
    assert text_flips(reference, candidate, validation).tolist() == [True, True]
    assert text_flips(reference, reference, validation).tolist() == [False, False]


def test_numbers_are_wrong_by_standard_deviations_of_the_target() -> None:
    actual = np.array([10, 30, 10, 30], dtype=np.float32)  # deviation 10
    validation = split("text-regression", actual)
    reference, candidate = of_numbers([10, 30, 10, 30], actual), of_numbers([12, 25, 10, 55], actual)
    assert text_losses(reference, validation) == pytest.approx([0, 0, 0, 0])
    assert text_losses(candidate, validation) == pytest.approx([0.2, 0.5, 0, 1])
    assert text_flips(reference, candidate, validation) == pytest.approx([0.2, 0.5, 0, 1])


def test_targets_that_are_all_alike_are_their_own_unit() -> None:
    actual = np.array([5.0, 5.0])
    validation = split("text-regression", actual)
    assert text_losses(of_numbers([5, 5.5], actual), validation) == pytest.approx([0, 0.5])


def test_of_tags_the_share_of_a_texts_words() -> None:
    actual, lengths = [1, 2, 0, 0, 1, 0], [4, 0, 2]
    validation = split("token-classification", [np.array(actual[:4]), np.array([]), np.array(actual[4:])], TAGS)
    reference = of_tags([1, 2, 0, NO_TAG, 1, 0], actual, lengths)
    candidate = of_tags([1, 0, 1, NO_TAG, 1, 1], actual, lengths)
    assert text_losses(reference, validation).tolist() == [0.25, 0, 0]  # a word without a tag is wrong
    assert text_losses(candidate, validation).tolist() == [0.75, 0, 0.5]
    assert text_flips(reference, candidate, validation).tolist() == [0.5, 0, 0.5]


def test_of_a_language_model_nats_a_token_up_to_a_bound() -> None:
    validation = split("text-generation", np.empty(2))
    reference = of_tokens([[1, 3], [4, 4, 4, 4]], [7, 7, 7, 7, 7, 7])
    candidate = of_tokens([[1, 4], [50, 4, 4, 4]], [7, 8, 7, 7, 7, 9])
    assert math.exp(LARGEST_NATS) == pytest.approx(22_026, abs=1)
    assert text_losses(reference, validation).tolist() == pytest.approx([0.2, 0.4])
    assert text_losses(candidate, validation).tolist() == pytest.approx([0.25, 1])
    assert text_flips(reference, candidate, validation).tolist() == [0.5, 0.25]


def test_only_a_single_label_is_whole() -> None:
    assert [task for task in TASKS if whole_losses(task)] == ["text-classification"]


@pytest.mark.parametrize("task", TASKS)
def test_the_metrics_loss_is_the_one_of_parity_and_its_samples_lie_about_it(task: Task) -> None:
    rng, rows = np.random.default_rng(1), 60
    validation, reference, candidate = _pair(task, rng, rows)
    found = metric_loss(reference, candidate, validation, samples=400, seed=3)
    parity = compare_answers(reference, candidate, validation)
    assert found.metric == parity.metric
    assert found.estimate == pytest.approx(parity.metric_loss)
    assert found.samples.shape == (400,)
    assert np.isfinite(found.samples).all()
    assert found.estimate > 0
    assert np.quantile(found.samples, 0.05) < found.estimate < np.quantile(found.samples, 0.95)
    again = metric_loss(reference, candidate, validation, samples=400, seed=3)
    assert again.samples.tolist() == found.samples.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_the_same_answers_lose_nothing_in_any_sample(task: Task) -> None:
    validation, reference, _ = _pair(task, np.random.default_rng(1), 60)
    found = metric_loss(reference, reference, validation, samples=50, seed=3)
    assert (found.estimate, np.abs(found.samples).max()) == (0, 0)
    assert not text_flips(reference, reference, validation).any()


@pytest.mark.parametrize("task", TASKS)
def test_a_real_engines_answers_have_a_loss_and_a_flip_a_text(tmp_path: Path, task: Task) -> None:
    bundle = task_bundle(tmp_path / "bundle", task)
    rows = task_rows(task, 12)
    texts, ids = [row["text"] for row in rows], [str(row) for row in range(12)]
    labels = list(bundle.manifest.labels)
    targets = parse_labels([_cell(row.get("label")) for row in rows], ids, task, labels, where=tmp_path)
    validation = Validation(task, labels, texts, ids, targets, tmp_path)
    predictor = Predictor.open(bundle, threads=1)
    answers = collect(predictor, validation, Progress(tmp_path / "progress.jsonl", show=False), "tiny")
    predictor.close()
    losses = text_losses(answers, validation)
    assert losses.shape == (12,)
    assert ((losses >= 0) & (losses <= 1)).all()
    assert losses.max() > 0  # its weights are random
    other = replace(answers, choices=answers.choices + 1, numbers=answers.numbers + 1)
    flips = text_flips(answers, other, validation)
    if task == "text-regression":
        assert ((flips > 0) & (flips <= 1)).all()
    else:
        assert flips.tolist() == [1] * 12


def _cell(label: Any) -> str | None:
    """A label as a table holds it."""
    return label if label is None or isinstance(label, str) else json.dumps(label)


def _pair(task: Task, rng: np.random.Generator, rows: int) -> tuple[Validation, Answers, Answers]:
    """A split, a reference that is mostly right, and a candidate that is worse."""
    if task == "text-classification":
        actual = rng.integers(0, 3, rows)
        worse = np.where(rng.random(rows) < 0.3, (actual + 1) % 3, actual)
        answers = [of_labels(one.tolist(), actual.tolist()) for one in (actual, worse)]
        return split(task, actual, ["a", "b", "c"]), answers[0], answers[1]
    if task == "multi-label-classification":
        sets = rng.integers(0, 2, (rows, 3)).astype(np.float64)
        worse = np.where(rng.random((rows, 3)) < 0.2, 1 - sets, sets)
        return split(task, sets, ["a", "b", "c"]), of_sets(sets.tolist(), sets), of_sets(worse.tolist(), sets)
    if task == "text-regression":
        numbers = rng.normal(50, 5, rows)
        near, far = (numbers + rng.normal(0, spread, rows) for spread in (0.5, 3))
        return split(task, numbers), of_numbers(near.tolist(), numbers), of_numbers(far.tolist(), numbers)
    if task == "token-classification":
        lengths = rng.integers(1, 6, rows)
        tags = rng.integers(0, 3, lengths.sum())
        worse = np.where(rng.random(len(tags)) < 0.2, (tags + 1) % 3, tags)
        answers = [of_tags(one.tolist(), tags.tolist(), lengths.tolist()) for one in (tags, worse)]
        return split(task, np.split(tags, np.cumsum(lengths)[:-1]), TAGS), answers[0], answers[1]
    losses = [rng.exponential(2, rng.integers(1, 6)).tolist() for _ in range(rows)]
    places = [0] * sum(map(len, losses))
    more = [[value + rng.random() for value in own] for own in losses]
    return split(task, np.empty(rows)), of_tokens(losses, places), of_tokens(more, places)
