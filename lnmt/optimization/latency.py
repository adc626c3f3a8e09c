"""Latency of several engines in turns, so that what disturbs the machine disturbs them all.

Legend: R = rounds, Q = calls in a round, S = bootstrap samples.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.candidate import Figure, Latency
from lnmt.stats.bootstrap import percentile_interval
from lnmt.types import Batch

# Calls of batch size 1 in a round; larger batches are fewer. One call alone says more about its text's
# length than about the engine.
CALLS = 8
LEAST_CALLS = 3

Pad = Callable[[Sequence[Sequence[int]]], Batch]


def draw_batches(
    rows: Sequence[Sequence[int]], size: int, rounds: int, pad: Pad, rng: np.random.Generator
) -> list[list[Batch]]:
    """Batches of `size` rows of token ids drawn from `rows`, as traffic would mix them: R lists of Q."""
    calls = max(1, CALLS // size)
    return [
        [pad([rows[index] for index in rng.choice(len(rows), size, replace=len(rows) < size)]) for _ in range(calls)]
        for _ in range(rounds)
    ]


def least_ms(infer: Callable[[Batch], object], batch: Batch, clock: Callable[[], float] = time.perf_counter) -> float:
    """The shortest of LEAST_CALLS calls in milliseconds, after one that may compile for the shape."""
    infer(batch)
    times = []
    for _ in range(LEAST_CALLS):
        start = clock()
        infer(batch)
        times.append(clock() - start)
    return 1000 * min(times)


def time_in_turns(
    engines: Mapping[str, Callable[[Batch], object]],
    batches: Sequence[Sequence[Batch]],
    *,
    warmup_rounds: int,
    rng: np.random.Generator,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each call, [R, Q] by engine. In every round each engine runs the same batches, in a new order.

    Before that each engine sees every shape once (some compile for it) and runs `warmup_rounds` rounds.
    An untimed call of one row leads each turn in: caches are its own again, and the threads of the
    engine before it have stopped spinning.
    `advance` is called after each round, warm-up included.
    """
    shapes = {batch.input_ids.shape: batch for group in batches for batch in group}
    for infer in engines.values():
        for batch in shapes.values():
            infer(batch)
    times = {name: np.empty((len(batches), len(batches[0]))) for name in engines}
    names = list(engines)
    gc.collect()
    for turn in range(-warmup_rounds, len(batches)):
        for place in rng.permutation(len(names)):
            infer = engines[names[place]]
            infer(_first_row(batches[turn % len(batches)][0]))
            for call, batch in enumerate(batches[turn % len(batches)]):
                start = clock()
                infer(batch)
                seconds = clock() - start
                if turn >= 0:
                    times[names[place]][turn, call] = seconds * 1000
        advance()
    return times


def _first_row(batch: Batch) -> Batch:
    return Batch(batch.input_ids[:1], batch.attention_mask[:1])


def summarise(
    reference: NDArray[np.float64],
    candidate: NDArray[np.float64],
    *,
    confidence: float,
    samples: int,
    rng: np.random.Generator,
) -> Latency:
    """Median, 99th percentile and mean of [R, Q] milliseconds, with intervals.

    Whole rounds are resampled (a cluster bootstrap: Davison & Hinkley 1997, §3.8), since calls of one
    round share its disturbances, and the same rounds for both, since they share its batches.
    """
    drawn = rng.integers(0, len(candidate), (samples, len(candidate)))
    ours, theirs = (times[drawn].reshape(samples, -1) for times in (candidate, reference))  # [S, R·Q]

    def figure(statistic: Statistic) -> Figure:
        value, resampled = float(statistic(candidate.reshape(1, -1))[0]), statistic(ours)
        return Figure(
            ms=value,
            interval=percentile_interval(resampled, confidence),
            speedup=float(statistic(reference.reshape(1, -1))[0]) / value,
            speedup_interval=percentile_interval(statistic(theirs) / resampled, confidence),
        )

    return Latency(candidate.size, figure(_median), figure(_p99), figure(_mean))


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # [S, N] → [S]


def _median(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.median(times, axis=1))


def _p99(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(times, 0.99, axis=1))


def _mean(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(times.mean(axis=1))
