"""Which files each server is given: the fastest for what it does, by time in a process of its own.

A peer without batches gets the fastest for one text, one with batches the fastest for 32 as they come, both as the
peers run them. LNMT gets what its search would choose among its settings for the same 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.serving_bench.alone import Alone, Task, measure_alone
from benchmarks.serving_bench.corpus import Corpus
from benchmarks.serving_bench.servers.classifier import BATCH_ROWS
from lnmt.bundles import Bundle
from lnmt.progress import Progress

SECONDS = 2.0  # of each


@dataclass(frozen=True)
class Choice:
    """Names of bundles, and what they were chosen by."""

    ours: str
    single: str  # of peers that do not batch
    batched: str  # of those that do
    measured: Mapping[str, Alone]  # `runner, bundle, rows` → figures
    one: Alone  # LNMT's, a text a call
    many: Alone  # LNMT's, 32 a call

    @property
    def cost(self) -> tuple[float, float]:
        """Seconds of one of LNMT's batches whatever it holds, and of each padded token: a line through two points."""
        by_token_ms = (self.many.mean_ms - self.one.mean_ms) / (self.many.tokens - self.one.tokens)
        by_token_ms = max(by_token_ms, 0.0)
        return max(self.one.mean_ms - by_token_ms * self.one.tokens, 0.0) / 1000, by_token_ms / 1000

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        measured = {name: asdict(one) for name, one in self.measured.items()}
        return {"lnmt": self.ours, "peers_single": self.single, "peers_batched": self.batched, "measured": measured}


def choose(corpus: Corpus, texts: Path, threads: int, progress: Progress) -> Choice:
    """Measure every bundle; `texts` is the file of them."""
    measured: dict[str, Alone] = {}
    runs = [("peer", name, bundle, rows) for name, bundle in corpus.plain.items() for rows in (1, BATCH_ROWS)]
    runs += [("lnmt", name, bundle, BATCH_ROWS) for name, bundle in corpus.tuned.items()]

    def fastest(runner: str, names: Mapping[str, Bundle], rows: int) -> str:
        return min(names, key=lambda name: measured[_key(runner, name, rows)].p50_ms)

    with progress.bar("engines", len(runs) + 1, "runs") as bar:
        for runner, name, bundle, rows in runs:
            measured[_key(runner, name, rows)] = _measure(runner, bundle, texts, rows, threads)
            bar.advance()
        ours = fastest("lnmt", corpus.tuned, BATCH_ROWS)
        measured[_key("lnmt", ours, 1)] = _measure("lnmt", corpus.tuned[ours], texts, 1, threads)
        bar.advance()
    return Choice(
        ours=ours,
        single=fastest("peer", corpus.plain, 1),
        batched=fastest("peer", corpus.plain, BATCH_ROWS),
        measured=measured,
        one=measured[_key("lnmt", ours, 1)],
        many=measured[_key("lnmt", ours, BATCH_ROWS)],
    )


def _key(runner: str, name: str, rows: int) -> str:
    return f"{runner}, {name}, {rows} a call"


def _measure(runner: str, bundle: Bundle, texts: Path, rows: int, threads: int) -> Alone:
    kind: Literal["lnmt", "peer"] = "lnmt" if runner == "lnmt" else "peer"
    return measure_alone(Task(kind, str(bundle.path), str(texts), rows, 0, SECONDS, threads))
