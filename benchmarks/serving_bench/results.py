"""Runs of all rounds → medians with ranges, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.serving_bench.rounds import Run

Value = Callable[[Run], float]
VALUES: Mapping[str, Value] = {
    "requests_per_s": lambda run: run.load.requests_per_s,
    "p50_ms": lambda run: run.load.p50_ms,
    "p90_ms": lambda run: run.load.p90_ms,
    "p99_ms": lambda run: run.load.p99_ms,
    "max_ms": lambda run: run.load.max_ms,
    "cpu_ms": lambda run: run.cpu_ms,
}


@dataclass(frozen=True)
class Spread:
    """A figure over rounds."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        told = f"{self.median:{spec}}"
        return told if self.low == self.high else f"{told} ({self.low:{spec}}…{self.high:{spec}})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Results:
    """All runs."""

    runs: Sequence[Run]

    @property
    def servers(self) -> list[str]:
        """Those that ran, in alphabetical order."""
        return sorted({run.server for run in self.runs})

    @property
    def concurrency(self) -> list[int]:
        """The levels that were measured."""
        return sorted({run.concurrency for run in self.runs})

    def of(self, server: str, concurrency: int) -> list[Run]:
        """Its runs at this level, by round."""
        chosen = [run for run in self.runs if run.server == server and run.concurrency == concurrency]
        return sorted(chosen, key=lambda run: run.round)

    def figure(self, server: str, concurrency: int, value: str) -> Spread:
        """One of VALUES."""
        return spread([VALUES[value](run) for run in self.of(server, concurrency)])

    def ratio(self, ours: str, theirs: str, concurrency: int, value: str) -> Spread:
        """`ours` over `theirs`, each within one round."""
        pairs = zip(self.of(ours, concurrency), self.of(theirs, concurrency), strict=True)
        return spread([VALUES[value](one) / VALUES[value](other) for one, other in pairs])
