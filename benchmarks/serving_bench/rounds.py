"""Rounds: each server in turn, in another order every time, only one of them up; what each run measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving_bench.check import CHECKED, check_answers
from benchmarks.serving_bench.hosting import Hosted, server_cpu_s
from benchmarks.serving_bench.load import Load, run_wrk
from benchmarks.serving_bench.peers import Answer

WARM_UP_S = 2  # at each concurrency, before it is measured: shapes are compiled, batchers learn
STEP = 997  # texts that a round begins behind the one before


@dataclass(frozen=True)
class Run:
    """One server at one concurrency in one round."""

    server: str
    round: int
    concurrency: int
    load: Load
    cpu_ms: float  # of the server's processes, a request

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self) | {"requests_per_s": self.load.requests_per_s}


@dataclass(frozen=True)
class Contender:
    """One server of a round."""

    name: str
    host: Callable[[], AbstractContextManager[Hosted]]
    bodies: Path
    expected: Sequence[Answer] | None  # None: it answers nothing true (the stand-in)
    allowed: float  # difference of a score


def plan(names: Sequence[str], rounds: int, seed: int) -> list[list[str]]:
    """The order of each round: drawn, so that none always follows the same one."""
    drawn = random.Random(seed)
    return [drawn.sample(list(names), len(names)) for _ in range(rounds)]


def measure(
    one: Contender, texts: Sequence[str], wrk: Path, number: int, concurrency: Sequence[int], seconds: int
) -> tuple[list[Run], float | None]:
    """Start it, check its answers, measure each concurrency, stop it; and the largest difference of a score.

    Raises LnmtError where it answers wrongly, or leaves a request unanswered.
    """
    found = []
    with one.host() as server:
        difference = None
        if one.expected is not None:
            difference = check_answers(server, texts[:CHECKED], one.expected, one.allowed)
        for level in concurrency:
            start = number * STEP
            # one that answers all of a burst at its end may still be at it
            run_wrk(wrk, server.url, one.bodies, start=start, concurrency=level, seconds=WARM_UP_S, least=0)
            before = server_cpu_s()
            load = run_wrk(wrk, server.url, one.bodies, start=start, concurrency=level, seconds=seconds)
            cpu_ms = 1000 * (server_cpu_s() - before) / load.requests
            found.append(Run(one.name, number, level, load, cpu_ms))
    return found, difference
