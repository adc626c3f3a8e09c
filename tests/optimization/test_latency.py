from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lnmt.optimization.candidate import Latency
from lnmt.optimization.latency import draw_batches, summarise, time_in_turns
from lnmt.types import Batch


def pad(rows: Sequence[Sequence[int]]) -> Batch:
    width = max(map(len, rows))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int64)
    return Batch(ids, (ids > 0).astype(np.int64))


ROWS = [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]


def test_batches_are_rows_of_the_split_and_the_seed_draws_them() -> None:
    first = draw_batches(ROWS, 2, 3, pad, np.random.default_rng(1))
    again = draw_batches(ROWS, 2, 3, pad, np.random.default_rng(1))
    assert [len(group) for group in first] == [4, 4, 4]
    assert all(batch.input_ids.shape[0] == 2 for group in first for batch in group)
    drawn = [np.trim_zeros(row).tolist() for group in first for batch in group for row in batch.input_ids]
    assert all(row in ROWS for row in drawn)
    assert {len(row) for row in drawn} == {1, 2, 3, 4}
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.input_ids, b.input_ids)


def test_a_batch_larger_than_the_split_repeats_rows() -> None:
    (group,) = draw_batches(ROWS, 10, 1, pad, np.random.default_rng(1))
    assert [batch.input_ids.shape[0] for batch in group] == [10]


def test_turns_are_interleaved_warmed_up_and_timed_apart() -> None:
    now, calls = [0.0], list[tuple[str, int]]()

    def engine(name: str, seconds: float) -> Callable[[Batch], None]:
        def infer(batch: Batch) -> None:
            calls.append((name, len(batch.input_ids)))
            now[0] += seconds * len(batch.input_ids)

        return infer

    batches = draw_batches(ROWS, 4, 3, pad, np.random.default_rng(1))
    turns = list[None]()
    times = time_in_turns(
        {"slow": engine("slow", 0.002), "fast": engine("fast", 0.001)},
        batches,
        warmup_rounds=2,
        rng=np.random.default_rng(0),
        clock=lambda: now[0],
        advance=lambda: turns.append(None),
    )
    np.testing.assert_allclose(times["slow"], np.full((3, 2), 8.0))
    np.testing.assert_allclose(times["fast"], np.full((3, 2), 4.0))
    assert len(turns) == 5
    shapes = len({batch.input_ids.shape for group in batches for batch in group})
    # each shape once; then in each of 5 turns a call of one row and the two batches
    assert calls.count(("slow", 4)) == calls.count(("fast", 4)) == shapes + 5 * 2
    assert calls.count(("slow", 1)) == calls.count(("fast", 1)) == 5
    blocks = [name for name, rows in calls[2 * shapes :] if rows == 1]
    assert all(set(blocks[turn : turn + 2]) == {"slow", "fast"} for turn in range(0, 10, 2))


def test_summary_of_known_times() -> None:
    reference, candidate = np.full((5, 2), 6.0), np.array([[1.0, 3.0]] * 5)
    found = summarise(reference, candidate, confidence=0.95, samples=50, rng=np.random.default_rng(0))
    assert (found.calls, found.p50.ms, found.p50.speedup) == (10, 2.0, 3.0)
    assert found.p50.interval.as_list() == [2.0, 2.0]
    assert found.p50.speedup_interval.as_list() == [3.0, 3.0]
    assert (found.p99.ms, found.p99.speedup) == (3.0, 2.0)
    assert (found.mean.ms, found.mean.speedup) == (2.0, 3.0)
    assert Latency.from_json(found.as_json()) == found


def test_rounds_that_were_disturbed_together_do_not_blur_the_speedup() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.5, (40, 1))
    reference, candidate = 4 * noise * np.ones((40, 8)), 2 * noise * np.ones((40, 8))
    found = summarise(reference, candidate, confidence=0.95, samples=500, rng=np.random.default_rng(1))
    assert found.p50.interval.high / found.p50.interval.low > 1.2
    np.testing.assert_allclose(found.p50.speedup_interval.as_list(), [2.0, 2.0])
