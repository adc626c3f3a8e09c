from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnmt.stats import bootstrap as module
from lnmt.stats.bootstrap import Interval, basic_interval, bootstrap_sums, cells, percentile_interval


def share(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the second of two cells."""
    return np.asarray(weights[:, 1] / weights.sum(axis=1))


def test_cells_count_distinct_rows() -> None:
    kept, counts = cells(np.array([[1, 0], [0, 2], [1, 0]]))
    assert kept.tolist() == [[0, 2], [1, 0]]
    assert counts.tolist() == [1, 2]


def draw(counts: NDArray[np.int64], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The counts of bootstrap samples [S, K]: each cell is a statistic of its own."""
    return bootstrap_sums(counts, lambda part: np.eye(len(counts))[part], samples, rng)


def bootstrap(
    counts: NDArray[np.int64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    return statistic(draw(counts, samples, rng))


BLOCKS = [module.BLOCK_VALUES, 40]  # all cells at once, or few at a time


@pytest.mark.parametrize("block", BLOCKS)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_a_sample_has_as_many_rows_and_no_cell_that_was_empty(
    block: int, counts: list[int], samples: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", block)
        drawn = draw(np.array(counts), samples, np.random.default_rng(seed))
    assert drawn.shape == (samples, len(counts))
    assert (drawn.sum(axis=1) == sum(counts)).all()
    assert (drawn[:, np.array(counts) == 0] == 0).all()


@pytest.mark.parametrize("counts", [[300, 100], [1] * 40, [1] * 30 + [2] * 30])
@pytest.mark.parametrize("block", [module.BLOCK_VALUES, 20_000 * 10])
def test_resampled_cells_have_the_moments_of_resampled_rows(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_VALUES", block)
    drawn, total = draw(np.array(counts), 20_000, np.random.default_rng(1)), sum(counts)
    share = np.array(counts) / total
    assert drawn.mean(axis=0) == pytest.approx(np.array(counts), abs=5 * np.sqrt(total / 4 / 20_000))
    assert drawn.var(axis=0) == pytest.approx(total * share * (1 - share), rel=0.1)
    assert np.cov(drawn[:, 0], drawn[:, -1])[0, 1] == pytest.approx(-total * share[0] * share[-1], rel=0.1, abs=0.04)


def test_each_cell_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_VALUES", 20)
    asked: list[slice] = []

    def statistics(part: slice) -> NDArray[np.float64]:
        asked.append(part)
        return np.ones((part.stop - part.start, 1))

    sums = bootstrap_sums(np.array([5, 5, 0, 4, 1]), statistics, 10, np.random.default_rng(0))
    assert sums.tolist() == [[15.0]] * 10
    assert asked == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_no_rows_sum_to_nothing() -> None:
    assert draw(np.empty(0, dtype=np.int64), 3, np.random.default_rng(0)).shape == (3, 0)


def test_the_seed_decides() -> None:
    first, second = (bootstrap(np.array([9, 4]), share, 50, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_percentile_interval_is_the_middle() -> None:
    found = percentile_interval(np.arange(101.0), 0.9)
    assert found.as_list() == pytest.approx([5.0, 95.0])
    assert percentile_interval(np.full(9, 0.5), 0.9) == Interval(0.5, 0.5)


def test_basic_interval_mirrors_and_is_cut() -> None:
    values = np.arange(101.0) / 100
    found = basic_interval(0.3, values, 0.9, minimum=0.0, maximum=1.0)
    assert found.low == 0.0  # 0.6 − 0.95 is impossible
    assert found.high == pytest.approx(0.55)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_more_confidence_is_never_narrower(values: list[float], confidence: float) -> None:
    narrow = percentile_interval(np.array(values), confidence / 2)
    wide = percentile_interval(np.array(values), confidence)
    assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_ninety_five_per_cent_intervals_cover_the_truth_that_often() -> None:
    rng = np.random.default_rng(5)
    truth, covered = 0.7, 0
    for right in rng.binomial(400, truth, size=600):
        interval = percentile_interval(bootstrap(np.array([400 - right, right]), share, 400, rng), 0.95)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 600 <= 0.975


def test_paired_intervals_cover_the_true_difference_and_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(6)
    joint = np.array([0.15, 0.03, 0.07, 0.75])  # neither right, only the baseline, only the model, both

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((weights[:, 2] - weights[:, 1]) / weights.sum(axis=1))

    covered, paired, unpaired = 0, 0.0, 0.0
    for counts in rng.multinomial(500, joint, size=400):
        interval = percentile_interval(bootstrap(counts, difference, 300, rng), 0.95)
        covered += interval.low <= 0.04 <= interval.high
        paired += interval.high - interval.low
        model, baseline = counts[2] + counts[3], counts[1] + counts[3]
        of_model = bootstrap(np.array([500 - model, model]), share, 300, rng)
        of_baseline = bootstrap(np.array([500 - baseline, baseline]), share, 300, rng)
        alone = percentile_interval(of_model - of_baseline, 0.95)
        unpaired += alone.high - alone.low
    assert 0.92 <= covered / 400 <= 0.975
    assert paired < 0.7 * unpaired
