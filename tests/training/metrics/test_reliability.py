from __future__ import annotations

import numpy as np
import pytest

from lnmt.training.metrics.reliability import (
    bin_gaps,
    confidence_bin,
    decision_bins,
    decision_error,
    expected_calibration_error,
    reliability_bins,
)


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


def test_gaps_add_up_to_the_calibration_error() -> None:
    confidence = np.array([[0.9, 0.2], [0.95, 0.7], [0.1, 0.72]])
    right = np.array([[True, False], [False, True], [False, False]])
    gaps = bin_gaps(confidence, right, 2)
    assert gaps == pytest.approx(np.array([[-0.2, 0.1], [0, -0.95 + 0.3], [-0.1, -0.72]]))
    bins = decision_bins(confidence.ravel(), right.ravel(), 2)
    assert decision_error(bins) == pytest.approx(np.abs(gaps.sum(axis=0)).sum() / 6)
    assert bin_gaps(confidence[:0], right[:0], 2).shape == (0, 2)
