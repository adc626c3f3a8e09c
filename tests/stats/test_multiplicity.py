from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnmt.stats.multiplicity import fixed_sequence, holm, intersection_union

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_sequence_stops_at_the_first_that_stands() -> None:
    assert fixed_sequence([0.01, 0.04, 0.2, 0.001]).tolist() == [0.01, 0.04, 0.2, 0.2]


def test_holm_by_hand() -> None:
    # 4·0.01, 3·0.02, 2·0.03, 1·0.04, each at least the one before
    assert holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_no_hypotheses_have_no_p_values() -> None:
    assert fixed_sequence([]).shape == holm([]).shape == (0,)


def test_all_parts_hold_as_surely_as_the_weakest() -> None:
    assert intersection_union([0.01, 0.3, 0.02]) == 0.3
    with pytest.raises(ValueError, match="no parts"):
        intersection_union([])


@given(P_VALUES)
def test_adjusting_never_helps_and_holm_is_never_worse_than_bonferroni(p_values: list[float]) -> None:
    found = np.array(p_values)
    assert (fixed_sequence(p_values) >= found).all()
    assert (holm(p_values) >= found).all()
    assert (holm(p_values) <= np.minimum(found * len(found), 1)).all()
    assert fixed_sequence(p_values)[0] == found[0]


@given(P_VALUES, st.integers(0, 99))
def test_holm_does_not_look_at_the_order(p_values: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p_values))
    assert holm(np.array(p_values)[order].tolist()).tolist() == holm(p_values)[order].tolist()


@pytest.mark.parametrize("procedure", [holm, fixed_sequence])
def test_the_family_wise_error_rate_is_held_when_some_are_true(
    procedure: Callable[[Sequence[float]], NDArray[np.float64]],
) -> None:
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(2000):
        p_values = rng.uniform(size=5)
        p_values[[0, 2]] **= 6  # two that are false, and found often
        wrong += bool((procedure(p_values.tolist())[[1, 3, 4]] <= 0.05).any())
    assert wrong <= 123  # the 99 % point of a binomial of 2,000 and 0.05


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(value: float) -> None:
    for procedure in (holm, fixed_sequence, intersection_union):
        with pytest.raises(ValueError, match="0…1"):
            procedure([0.5, value])
