"""What was asked of the service, and whether this run reached it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.serving_bench.results import Results, Spread, spread

LNMT, EAGER = "lnmt", "eager"
ONE, SOME, MANY = 1, 8, 64  # requests at once
BEST_PEER, EAGER_TIMES, NO_SLOWER, ALONE_TIMES, REST_MS = 2.0, 8.0, 1.0, 1.15, 0.3


@dataclass(frozen=True)
class Goal:
    """One figure that was asked for."""

    what: str
    wanted: float
    reached: Spread  # over rounds; the median is judged
    unit: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.reached.median <= self.wanted if self.at_most else self.reached.median >= self.wanted

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self) | {"met": self.met}


def judge(
    results: Results, peers: Sequence[str], alone_ms: Sequence[float], rest_ms: Mapping[int, Sequence[float]]
) -> list[Goal]:
    """Every goal that the run has figures for.

    `alone_ms`: p50 of tokenise and engine alone, by round; `rest_ms`: CPU time of a request that is neither, by
    concurrency and round.
    """
    ran = [peer for peer in peers if peer in results.servers]
    return [*_peers(results, ran), *_alone(results, alone_ms), *_rest(rest_ms)]


def best_peer(results: Results, peers: Sequence[str], concurrency: int, value: str, *, least: bool = False) -> str:
    """The one with the highest median, or the least."""
    pick = min if least else max
    return pick(peers, key=lambda peer: results.figure(peer, concurrency, value).median)


def _peers(results: Results, peers: Sequence[str]) -> Iterator[Goal]:
    if peers and MANY in results.concurrency:
        best = best_peer(results, peers, MANY, "requests_per_s")
        ratio = results.ratio(LNMT, best, MANY, "requests_per_s")
        yield Goal(f"{MANY} at once: requests/s of the best peer, {best}", BEST_PEER, ratio, "×")
        tail = results.ratio(LNMT, best, MANY, "p99_ms")
        yield Goal(f"{MANY} at once: p99 of that peer", NO_SLOWER, tail, "×", at_most=True)
        if EAGER in peers:
            ratio = results.ratio(LNMT, EAGER, MANY, "requests_per_s")
            yield Goal(f"{MANY} at once: requests/s of PyTorch eager", EAGER_TIMES, ratio, "×")
    if peers and SOME in results.concurrency:
        least = best_peer(results, peers, SOME, "p99_ms", least=True)
        tail = results.ratio(LNMT, least, SOME, "p99_ms")
        yield Goal(f"{SOME} at once: the least p99 of a peer, {least}", NO_SLOWER, tail, "×", at_most=True)


def _alone(results: Results, alone_ms: Sequence[float]) -> Iterator[Goal]:
    if ONE in results.concurrency:
        runs = results.of(LNMT, ONE)
        ratio = spread([run.load.p50_ms / alone for run, alone in zip(runs, alone_ms, strict=True)])
        yield Goal("one at a time: p50 of tokenise and engine alone", ALONE_TIMES, ratio, "×", at_most=True)


def _rest(rest_ms: Mapping[int, Sequence[float]]) -> Iterator[Goal]:
    for concurrency, values in rest_ms.items():
        what = f"{concurrency} at once: CPU of a request beside tokeniser and engine"
        yield Goal(what, REST_MS, spread(values), "ms", at_most=True)
