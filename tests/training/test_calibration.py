from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.training.calibration import (
    MIN_TEMPERATURE,
    binary_likelihood,
    fit_binary_temperature,
    fit_temperature,
    negative_log_likelihood,
    sigmoid,
    softmax,
)
from lnmt.training.metrics.reliability import expected_calibration_error


def drawn(temperature: float, rows: int = 20_000) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=3, size=(rows, 3))
    cumulative = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((rows, 1)) > cumulative[:, :2]).sum(axis=1)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(truth: float) -> None:
    logits, labels = drawn(truth)
    assert fit_temperature(logits, labels) == pytest.approx(truth, rel=0.03)


def test_it_is_the_minimum_and_calibrates() -> None:
    logits, labels = drawn(2.0)
    best = fit_temperature(logits, labels)
    least = negative_log_likelihood(logits, labels, best)
    assert least < negative_log_likelihood(logits, labels, best * 1.02)
    assert least < negative_log_likelihood(logits, labels, best / 1.02)
    before = expected_calibration_error(softmax(logits), labels)
    after = expected_calibration_error(softmax(logits, best), labels)
    assert before > 0.1
    assert after < 0.015


def test_all_right_stays_within_the_bounds() -> None:
    found = fit_temperature(np.array([[5.0, 0.0], [0.0, 5.0]]), np.array([0, 1]))
    assert MIN_TEMPERATURE <= found < 0.2


def test_likelihood_of_known_scores() -> None:
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert negative_log_likelihood(logits, np.array([1, 0])) == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)


def test_softmax_does_not_overflow() -> None:
    assert softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]


def test_no_rows_are_refused() -> None:
    with pytest.raises(LnmtError, match="no rows to fit the temperature on"):
        fit_temperature(np.empty((0, 2)), np.empty(0, dtype=np.int64))


@pytest.mark.parametrize("truth", [0.5, 2.5])
def test_the_temperature_of_labels_that_stand_alone_is_found(truth: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=3, size=(8000, 3))
    labels = (rng.random((8000, 3)) < sigmoid(logits, truth)).astype(float)
    found = fit_binary_temperature(logits, labels)
    assert found == pytest.approx(truth, rel=0.05)
    assert binary_likelihood(logits, labels, found) < binary_likelihood(logits, labels, found * 1.05)
    with pytest.raises(LnmtError, match="no rows to fit the temperature on"):
        fit_binary_temperature(logits[:0], labels[:0])


def test_binary_likelihood_of_known_scores() -> None:
    logits = np.log(np.array([[3.0, 1 / 3]]))  # 3/4 and 1/4
    assert binary_likelihood(logits, np.array([[1.0, 1.0]])) == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]
