from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lnmt.data.order import MEGABATCH, Batches, batch_order, length_order

LENGTHS = np.random.default_rng(0).integers(3, 60, 5000)

Order = Sequence[NDArray[np.int64]]


def padding(lengths: NDArray[np.int64], batches: Order) -> int:
    return sum(int(lengths[batch].max()) * len(batch) for batch in batches) - int(lengths.sum())


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 700), batch_size=st.integers(1, 9), seed=st.integers(-5, 2**40), epoch=st.integers(0, 9))
def test_every_row_comes_once_an_epoch(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = batch_order(LENGTHS[:rows], batch_size, seed, epoch)
    assert sorted(np.concatenate(list(batches)).tolist()) == list(range(rows))
    sizes = [len(batch) for batch in batches]
    assert sorted(sizes)[1:] == [batch_size] * (len(sizes) - 1), "at most one batch is short"


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        places: list[int] = np.concatenate(list(batch_order(LENGTHS, 32, seed, epoch))).tolist()
        return places

    assert flat(7, 0) == flat(7, 0)
    assert len({tuple(flat(seed, epoch)) for seed in (7, 8) for epoch in (0, 1)}) == 4


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 900), longest=st.integers(1, 500), batch_size=st.integers(1, 6), seed=st.integers(0, 99))
def test_padding_is_bounded_whatever_the_lengths(rows: int, longest: int, batch_size: int, seed: int) -> None:
    lengths = (np.random.default_rng(seed).pareto(0.5, rows) + 1).clip(1, longest).astype(np.int64)
    spread = int(lengths.max() - lengths.min())
    groups = -(-rows // (batch_size * MEGABATCH))
    assert padding(lengths, batch_order(lengths, batch_size, seed, 0)) <= groups * batch_size * spread
    assert padding(lengths, length_order(lengths, batch_size)) <= batch_size * spread


@pytest.mark.parametrize("batch_size", [8, 32])
def test_ordinary_lengths_are_hardly_padded(batch_size: int) -> None:
    random = np.random.default_rng(1)
    for lengths in (
        LENGTHS,
        np.clip(random.lognormal(3, 0.6, 20_000), 3, 64).astype(np.int64),
        np.clip(random.lognormal(4, 1, 20_000), 3, 512).astype(np.int64),
    ):
        total = int(lengths.sum())
        assert padding(lengths, batch_order(lengths, batch_size, 7, 0)) < 0.05 * total
        assert padding(lengths, length_order(lengths, batch_size)) < 0.015 * total
        shuffled = Batches(random.permutation(len(lengths)), batch_size)
        assert padding(lengths, shuffled) > 0.6 * total, "as they come"


def test_rows_of_one_length_are_not_padded_and_are_shuffled() -> None:
    lengths = np.full(1000, 17)
    batches = batch_order(lengths, 16, 7, 0)
    assert padding(lengths, batches) == 0
    assert np.concatenate(list(batches)).tolist() != list(range(1000))


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    assert [sorted(batch.tolist()) for batch in batch_order(np.array([5, 3, 9]), 8, 7, 0)] == [[0, 1, 2]]


def test_no_rows_are_no_batches() -> None:
    empty = np.empty(0, np.int64)
    assert (list(batch_order(empty, 8, 7, 0)), list(length_order(empty, 8))) == ([], [])


def test_the_order_of_evaluation_is_by_length() -> None:
    batches = length_order(np.array([5, 3, 9, 3]), 3)
    assert [batch.tolist() for batch in batches] == [[1, 3, 0], [2]]


def test_batches_are_a_sequence() -> None:
    batches = Batches(np.arange(10), 4, np.array([2, 0, 1]))
    assert len(batches) == 3
    assert batches[0].tolist() == [8, 9]
    assert batches[-1].tolist() == [4, 5, 6, 7]
    assert [batch.tolist() for batch in batches[:2]] == [[8, 9], [0, 1, 2, 3]]
    with pytest.raises(IndexError):
        batches[3]


def test_an_order_of_many_rows_is_two_arrays() -> None:
    import tracemalloc

    lengths = LENGTHS[np.random.default_rng(0).integers(0, 5000, 400_000)]
    tracemalloc.start()
    batches = batch_order(lengths, 4, 7, 0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(batches) == 100_000
    assert kept < 8 * 400_000 + 8 * 100_000 + 20_000, "no object for each batch"
    assert peak < 2 * kept
