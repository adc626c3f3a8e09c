from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from lnmt.training.metrics.regression import NumberMetrics


def points(actual: list[float], predicted: list[float], centre: float = 0.0) -> dict[str, float]:
    metrics = NumberMetrics()
    return metrics.points(metrics.total(metrics.rows(np.array(actual), np.array(predicted), centre)))


def test_metrics_of_four_rows() -> None:
    found = points([1, 2, 3, 4], [1, 3, 3, 2])
    assert found["mae"] == pytest.approx(3 / 4)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 4))
    assert found["r2"] == pytest.approx(1 - 5 / 5)
    assert found["pearson"] == pytest.approx(1.5 / np.sqrt(5 * 2.75))


numbers = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=40)


@given(numbers, st.sampled_from([0.0, 1000.0]))
def test_the_same_as_scikit_learn_and_scipy(pairs: list[tuple[int, int]], centre: float) -> None:
    actual, predicted = [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]
    found = points(actual, predicted, centre)
    assert found["mae"] == pytest.approx(np.abs(np.subtract(actual, predicted)).mean(), abs=1e-9)
    if len(set(actual)) > 1:
        assert found["r2"] == pytest.approx(r2_score(actual, predicted), rel=1e-6, abs=1e-6)
        if len(set(predicted)) > 1:
            assert found["pearson"] == pytest.approx(pearsonr(actual, predicted).statistic, abs=1e-6)


def test_what_has_no_variance_has_no_correlation_and_no_share_of_it() -> None:
    assert points([2, 2, 2], [1, 2, 3]) == {"mae": 2 / 3, "rmse": np.sqrt(2 / 3), "r2": 0.0, "pearson": 0.0}
    assert points([1, 2, 3], [5, 5, 5])["pearson"] == 0.0
    assert points([], []) == {"mae": 0.0, "rmse": 0.0, "r2": 0.0, "pearson": 0.0}


def test_a_small_variance_beside_a_large_mean_is_kept() -> None:
    actual = [1e8 + step for step in (0.0, 1.0, 2.0, 3.0)]
    found = points(actual, [value + 0.5 for value in actual], centre=1e8)
    assert found["r2"] == pytest.approx(1 - 0.25 / 1.25)
    assert found["pearson"] == pytest.approx(1.0)
