from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnmt.optimization.answers import Answers, Validation
from lnmt.optimization.parity import UNITS, compare_answers
from lnmt.training.metrics.tags import TagMetrics
from lnmt.types import Task
from tests.task_kit import TASKS


def split(task: Task, targets: Any, labels: list[str] | None = None) -> Validation:
    """A split whose texts nobody looks at."""
    rows = [str(row) for row in range(len(targets))]
    return Validation(task, labels or [], rows, rows, targets, Path("validation"))


def of_labels(logits: list[list[float]], actual: list[int]) -> Answers:
    numbers = np.array(logits, dtype=np.float32)
    best = numbers.argmax(axis=1)
    return Answers(numbers, best[:, None], np.stack([actual, best], axis=1).astype(np.float64))


def test_the_same_answers_have_no_flips() -> None:
    answers = of_labels([[1, 0], [0, 1], [3, 2]], [0, 1, 0])
    found = compare_answers(answers, answers, split("text-classification", np.array([0, 1, 0]), ["no", "yes"]))
    assert (found.unit, found.units, found.flips, found.flip_share) == ("labels", 3, 0, 0.0)
    assert (found.metric, found.value, found.metric_loss, found.max_difference) == ("macro_f1", 1.0, 0.0, 0.0)


def test_a_flip_is_counted_and_costs_f1() -> None:
    actual = [0, 1, 0, 1]
    reference = of_labels([[2, 0], [0, 2], [2, 0], [0, 2]], actual)
    candidate = of_labels([[0, 0.5], [0, 2], [2, 0], [0, 2]], actual)
    validation = split("text-classification", np.array(actual), ["no", "yes"])
    found = compare_answers(reference, candidate, validation)
    assert (found.flips, found.flip_share, found.max_difference) == (1, 0.25, 2.0)
    # one of two zeros is missed: F1 2/3 for label 0, 4/5 for label 1
    assert found.value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.metric_loss == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)
    back = compare_answers(candidate, reference, validation)
    assert (back.flips, back.metric_loss) == (1, -found.metric_loss)


def test_a_set_of_labels_flips_where_any_of_them_does() -> None:
    actual = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=np.float32)

    def answers(scores: list[list[float]]) -> Answers:
        array = np.array(scores)
        return Answers(
            array.astype(np.float32), (array >= 0.5).astype(np.int64), np.concatenate([actual, array], axis=1)
        )

    reference = answers([[0.9, 0.1, 0.9], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])
    candidate = answers([[0.4, 0.6, 0.9], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])
    found = compare_answers(reference, candidate, split("multi-label-classification", actual, ["a", "b", "c"]))
    assert (found.unit, found.units, found.flips, found.metric) == ("label sets", 3, 1, "micro_f1")
    assert found.value == pytest.approx(2 * 4 / (5 + 5))  # 4 of 5 labels found, one too many
    assert found.metric_loss == pytest.approx(1 - 0.8)


def test_numbers_move_in_standard_deviations_of_the_target() -> None:
    actual = np.array([10, 30, 10, 30], dtype=np.float32)  # deviation 10

    def answers(values: list[float]) -> Answers:
        numbers = np.array(values, dtype=np.float32)
        return Answers(
            numbers[:, None], np.empty((4, 0), np.int64), np.stack([actual, numbers], axis=1).astype(np.float64)
        )

    found = compare_answers(answers([10, 30, 10, 30]), answers([12, 30, 10, 28]), split("text-regression", actual))
    assert (found.unit, found.units, found.flips, found.metric) == ("numbers", 4, None, "rmse")
    assert found.flip_share == pytest.approx(4 / 4 / 10)
    assert found.value == pytest.approx(math.sqrt(2))
    assert found.metric_loss == pytest.approx(math.sqrt(2) / 10)
    assert found.max_difference == 2.0


def test_targets_that_are_all_alike_are_their_own_unit() -> None:
    actual = np.array([5, 5], dtype=np.float32)
    one, other = (
        Answers(np.array([[5], [v]], np.float32), np.empty((2, 0), np.int64), np.array([[5.0, 5.0], [5.0, v]]))
        for v in (5.0, 6.0)
    )
    assert compare_answers(one, other, split("text-regression", actual)).flip_share == 0.5


def test_tags_flip_one_by_one_and_the_metric_is_of_entities() -> None:
    labels = ["O", "B-PER", "I-PER"]
    actual, lengths = np.array([1, 2, 0, 0, 1]), np.array([3, 2])

    def answers(tags: list[int]) -> Answers:
        places = np.array(tags)
        scored = TagMetrics(labels).rows(actual, places, lengths)
        return Answers(np.eye(3, dtype=np.float32)[places], places[:, None], scored)

    targets = [np.array([1, 2, 0]), np.array([0, 1])]
    found = compare_answers(
        answers([1, 2, 0, 0, 1]), answers([1, 0, 0, 0, 1]), split("token-classification", targets, labels)
    )
    assert (found.unit, found.units, found.flips, found.flip_share) == ("tags", 5, 1, 0.2)
    # of two persons one is found, and one of two found is right
    assert (found.metric, found.value, found.metric_loss) == ("micro_f1", 0.5, 0.5)


def test_the_tokens_that_are_expected_next_flip_and_the_loss_is_in_nats() -> None:
    def answers(losses: list[float], likeliest: list[int]) -> Answers:
        scored = np.array([[sum(losses), len(losses), 9, 0]], dtype=np.float64)
        return Answers(np.array(losses, np.float32)[:, None], np.array(likeliest)[:, None], scored)

    found = compare_answers(
        answers([1, 2, 3, 2], [7, 7, 7, 7]), answers([1, 2, 4, 2], [7, 8, 7, 7]), split("text-generation", np.empty(0))
    )
    assert (found.unit, found.units, found.flips, found.flip_share) == ("next tokens", 4, 1, 0.25)
    assert (found.metric, found.value, found.metric_loss, found.max_difference) == ("loss", 2.25, 0.25, 1.0)


def test_every_task_has_a_unit() -> None:
    assert tuple(UNITS) == TASKS
