"""One model's engines in turns at one shape: times with intervals, and the share of the peak that they reach.

Legend: B = rows, T = tokens, R = rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.engine_bench.contenders import Contender
from lnmt.optimization.candidate import REFERENCE
from lnmt.optimization.latency import summarise, time_in_turns
from lnmt.progress import Progress
from lnmt.types import Batch

CONFIDENCE, SAMPLES = 0.95, 1000
LEAST_ROUNDS = 5  # also where a round is longer than the budget
SHORT_CALLS = 4  # of batch size 1 in a round
HOPELESS = 3  # times eager fp32's time: such an engine would take most of the run, to win nothing


@dataclass(frozen=True)
class Budget:
    """How long one shape may be measured."""

    seconds: float
    rounds: int  # at most


@dataclass(frozen=True)
class Result:
    """One contender at one shape."""

    engine: str
    ours: bool
    arithmetic: str
    ms: float  # median
    interval: tuple[float, float]
    requests_per_s: float
    speedup: float  # times eager fp32 in the same rounds
    speedup_interval: tuple[float, float]
    peak_share: float | None = None  # of the best rate of its arithmetic
    against_best: tuple[float, float] | None = None  # interval of its time over our fastest's


@dataclass(frozen=True)
class Cell:
    """All contenders at one shape, the fastest first."""

    model: str
    tokens: int | None  # None: real texts
    rows: int
    rounds: int
    gflop: float | None  # 10⁹ operations of a call
    peaks: Mapping[str, float]  # 10⁹ operations/s by arithmetic
    results: Sequence[Result]
    what: str = ""  # of real texts: how they came
    left_out: Mapping[str, float] = field(default_factory=dict)  # by name, times eager fp32's time at first sight

    @property
    def best(self) -> Result:
        """The fastest that LNMT's search could ship."""
        return next(one for one in self.results if one.ours)

    @property
    def ceiling_ms(self) -> float | None:
        """What a call's products alone take at the best rate that this machine has in any arithmetic."""
        return None if self.gflop is None or not self.peaks else 1000 * self.gflop / max(self.peaks.values())

    def named(self, engine: str) -> Result | None:
        """The result of the contender of that name, if it ran."""
        return next((one for one in self.results if one.engine == engine), None)

    @property
    def eager(self) -> Result:
        """PyTorch eager in fp32."""
        found = self.named(REFERENCE.name)
        assert found is not None, "the reference always runs"
        return found

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self) | {"best": self.best.engine, "ceiling_ms": self.ceiling_ms}


def measure_cell(
    cell: Cell,
    contenders: Mapping[str, Contender],
    batches: Sequence[Batch],
    budget: Budget,
    rng: np.random.Generator,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Cell:
    """`cell` with rounds and results. Each of `batches` is a call of every round.

    Rounds are as many as the budget has seconds for, at least five; they are run in turns. What takes more than
    three times as long as eager fp32 is left out.
    """
    used = {name: one for name, one in contenders.items() if one.least_rows <= cell.rows}
    seconds: dict[str, float] = {}
    for name, one in used.items():
        for _ in range(2):  # the first time some compile for the shape
            start = clock()
            for batch in batches:
                one.infer(batch)
            seconds[name] = clock() - start
    slow = {name: took for name, took in seconds.items() if took > HOPELESS * seconds[REFERENCE.name]}
    calls = {name: one.infer for name, one in used.items() if name not in slow}
    round_s = sum(seconds[name] for name in calls)
    rounds = int(np.clip(budget.seconds / round_s, LEAST_ROUNDS, budget.rounds))
    title = f"{cell.model} {cell.what or f'{cell.rows}×{cell.tokens}'}"
    with progress.bar(title, rounds, "rounds") as bar:
        times = time_in_turns(
            calls, [list(batches)] * rounds, warmup_rounds=0, rng=rng, clock=clock, advance=lambda: bar.advance(1)
        )
    medians = {name: float(np.median(found)) for name, found in times.items()}
    best = min((name for name in medians if used[name].ours), key=lambda name: medians[name])
    results = []
    for name in sorted(medians, key=lambda name: medians[name]):
        latency = summarise(times[REFERENCE.name], times[name], confidence=CONFIDENCE, samples=SAMPLES, rng=rng)
        beside = summarise(times[name], times[best], confidence=CONFIDENCE, samples=SAMPLES, rng=rng)
        figure, one = latency.p50, used[name]
        peak = cell.peaks.get(one.arithmetic)
        results.append(
            Result(
                engine=name,
                ours=one.ours,
                arithmetic=one.arithmetic,
                ms=figure.ms,
                interval=(figure.interval.low, figure.interval.high),
                requests_per_s=1000 * cell.rows / figure.ms,
                speedup=figure.speedup,
                speedup_interval=(figure.speedup_interval.low, figure.speedup_interval.high),
                peak_share=None if peak is None or cell.gflop is None else 1000 * cell.gflop / figure.ms / peak,
                against_best=(beside.p50.speedup_interval.low, beside.p50.speedup_interval.high),
            )
        )
    left_out = {name: took / seconds[REFERENCE.name] for name, took in slow.items()}
    return replace(cell, rounds=rounds, results=results, left_out=left_out)
