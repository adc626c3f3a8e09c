from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnmt.stats.noninferiority import mean_evidence, mean_p_value

THREE = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60)
ANY = st.lists(st.floats(-1, 1), min_size=1, max_size=60)
MARGINS = st.floats(0, 1)


def outcome(rows: int, worse: int, better: int) -> NDArray[np.float64]:
    return np.repeat([1.0, -1.0, 0.0], [worse, better, rows - worse - better])


@pytest.mark.parametrize(("rows", "margin"), [(1, 0.3), (50, 0.05), (280, 0.03), (3541, 0.01)])
def test_no_difference_at_all_is_as_strong_as_any_valid_test_can_say(rows: int, margin: float) -> None:
    # where margin of the units turn worse and none better, nothing is seen with chance (1 − margin)^N
    found = mean_p_value(np.zeros(rows), margin, whole=True)
    assert (1 - margin) ** rows <= found <= 1.011 * (1 - margin) ** rows


@pytest.mark.parametrize(("rows", "margin"), [(50, 0.05), (280, 0.03), (3541, 0.01)])
def test_without_whole_differences_the_stakes_are_mixed(rows: int, margin: float) -> None:
    stakes = np.arange(1, 11) / 10
    wealth = np.mean((1 + stakes * margin / (1 - margin)) ** rows)
    assert mean_p_value(np.zeros(rows), margin, whole=False) == pytest.approx(1 / wealth)


def test_one_unit_by_hand() -> None:
    assert mean_p_value(np.array([1.0]), 0.2, whole=True) == pytest.approx(1)
    # the better unit is surest at a mean of 0.2 where the others are all worse: share 0.4
    assert mean_p_value(np.array([-1.0]), 0.2, whole=True) == pytest.approx(0.4, rel=0.011)
    # half a unit better: wealth 1 + c·0.7/0.8, mean stake 0.55
    assert mean_p_value(np.array([-0.5]), 0.2, whole=False) == pytest.approx(1 / (1 + 0.55 * 0.7 / 0.8))


@pytest.mark.parametrize(("rows", "margin"), [(30, 0.1), (60, 0.05)])
def test_the_exact_test_holds_its_level_under_every_distribution_at_the_margin(rows: int, margin: float) -> None:
    # All outcomes and a nuisance parameter 20 times as fine as the one that the test looks at.
    outcomes = [(worse, better) for worse in range(rows + 1) for better in range(rows + 1 - worse)]
    p_values = np.array([mean_p_value(outcome(rows, *one), margin, whole=True) for one in outcomes])
    worse, better = np.array(outcomes).T
    ways = np.array([math.comb(rows, a) * math.comb(rows - a, b) for a, b in outcomes], dtype=np.float64)
    share = np.linspace(0, (1 - margin) / 2, 2000)[:, None]
    same = np.maximum(1 - margin - 2 * share, 0)
    chances = ways * (share + margin) ** worse * share**better * same ** (rows - worse - better)
    assert chances.sum(axis=1) == pytest.approx(1)
    for alpha in (0.01, 0.05, 0.1):
        size = chances[:, p_values <= alpha].sum(axis=1).max()
        assert 0.5 * alpha < size <= alpha  # held, and not wasted


@settings(deadline=None)
@given(THREE, MARGINS)
def test_p_values_are_shares(values: list[float], margin: float) -> None:
    for whole in (True, False):
        assert 0 <= mean_p_value(np.array(values), margin, whole=whole) <= 1


@settings(deadline=None)
@given(ANY, st.floats(0, 0.95), st.integers(0, 59), st.floats(0, 1))
def test_a_unit_that_turns_better_is_never_against_the_candidate(
    values: list[float], margin: float, at: int, by: float
) -> None:
    before = np.array(values)
    after = before.copy()
    after[at % len(after)] = max(-1.0, after[at % len(after)] - by)
    assert mean_p_value(after, margin, whole=False) <= mean_p_value(before, margin, whole=False) * (1 + 1e-9)


@settings(deadline=None)
@given(THREE, st.floats(0, 0.95), st.integers(0, 59))
def test_a_whole_unit_that_turns_better_is_never_against_the_candidate(
    values: list[float], margin: float, at: int
) -> None:
    before = np.array(values)
    after = before.copy()
    after[at % len(after)] = max(-1.0, after[at % len(after)] - 1)
    assert mean_p_value(after, margin, whole=True) <= mean_p_value(before, margin, whole=True) * (1 + 1e-9)


@settings(deadline=None, max_examples=50)
@given(ANY, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_margin_is_easier(values: list[float], margin: float, more: float) -> None:
    differences = np.array(values)
    wide, narrow = (mean_p_value(differences, found, whole=False) for found in (margin + more, margin))
    assert wide <= narrow * (1 + 1e-9)


@settings(deadline=None, max_examples=50)
@given(THREE, st.permutations(range(60)))
def test_the_exact_test_does_not_look_at_the_order(values: list[float], order: list[int]) -> None:
    differences = np.array(values)
    shuffled = differences[[place for place in order if place < len(values)]]
    assert mean_p_value(differences, 0.1, whole=True) == mean_p_value(shuffled, 0.1, whole=True)


@settings(deadline=None, max_examples=50)
@given(THREE, st.floats(0, 0.95), st.sampled_from([0.8, 0.95]), st.booleans())
def test_bound_and_p_value_never_contradict_each_other(
    values: list[float], margin: float, confidence: float, whole: bool
) -> None:
    found = mean_evidence(np.array(values), margin, confidence, whole=whole)
    assert found.p_value == mean_p_value(np.array(values), margin, whole=whole)
    assert (found.upper <= margin) == (found.p_value <= 1 - confidence)
    assert found.rows == len(values)
    assert found.estimate == pytest.approx(np.mean(values))
    assert max(found.estimate, 0) <= found.upper <= 1


def test_the_bound_of_no_differences_is_known() -> None:
    # (1 − m)^N = 0.05, to the precision that is promised
    found = mean_evidence(np.zeros(280), 0.03, 0.95, whole=True)
    exact = 1 - 0.05 ** (1 / 280)
    assert exact <= found.upper <= 1.01 * exact


@pytest.mark.parametrize("whole", [True, False])
def test_the_level_is_held_where_losses_are_rare(whole: bool) -> None:
    # Exactly at the margin, all of it by rows that turn worse: what a normal approximation is worst at.
    rng, margin, rows = np.random.default_rng(4), 0.03, 280
    size = 1.0 if whole else 0.6
    counts, times = np.unique(rng.binomial(rows, margin / size, size=1000), return_counts=True)
    wrong = 0
    for worse, often in zip(counts.tolist(), times.tolist(), strict=True):
        differences = size * outcome(rows, worse, 0)
        wrong += often * (mean_p_value(differences, margin, whole=whole) <= 0.05)
    assert wrong <= 67  # the 99 % point of a binomial of 1,000 and 0.05


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    differences = np.random.default_rng(2).uniform(-0.4, 0.3, size=90)
    first, again, other = (mean_p_value(differences, 0.05, whole=False, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("values", "margin", "whole", "message"),
    [
        ([], 0.1, False, "at least one"),
        ([[0.0]], 0.1, False, "one a unit"),
        ([0.0, math.nan], 0.1, False, "finite"),
        ([0.0, 1.5], 0.1, False, "-1…1"),
        ([0.0, 0.5], 0.1, True, "-1, 0 or 1"),
        ([0.0], -0.1, True, "margin is -0.1"),
        ([0.0], math.nan, False, "margin is nan"),
    ],
)
def test_what_is_no_difference_is_refused(values: list[float], margin: float, whole: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_p_value(np.array(values), margin, whole=whole)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_no_bound_is_certain(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        mean_evidence(np.zeros(3), 0.1, confidence, whole=True)
