"""The model without a server, in a process of its own: `python -m benchmarks.serving_bench.alone TASK`.

As LNMT runs it (`Predictor`: tokenise, pad, engine, scores) or as the peers do (`servers/classifier.py`), so many texts
a call, one call after the other. Answers on its standard output with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

WARM_UP_S = 1.0
TOKENISED = 2000  # texts whose tokenising is timed


@dataclass(frozen=True)
class Task:
    """What is measured; paths as text, so that it travels as JSON."""

    runner: Literal["lnmt", "peer"]
    bundle: str
    texts: str  # a file with a JSON list of them
    rows: int  # texts of a call
    start: int  # place of the first text
    seconds: float
    threads: int


@dataclass(frozen=True)
class Alone:
    """What was measured, by call."""

    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    tokens: float  # padded ones of a call
    tokenise_ms: float  # CPU time of one text


def measure_alone(task: Task) -> Alone:
    """`task` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving_bench.alone", json.dumps(asdict(task))]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return Alone(**json.loads(done.stdout.splitlines()[-1]))


def time_calls(
    call: Callable[[Sequence[str]], object], texts: Sequence[str], task: Task, clock: Callable[[], float]
) -> list[float]:
    """Seconds of each call, after a second of warming up; the texts come round again."""
    times: list[float] = []
    place, begins, ends = task.start, clock() + WARM_UP_S, clock() + WARM_UP_S + task.seconds
    while (start := clock()) < ends:
        chosen = [texts[(place + row) % len(texts)] for row in range(task.rows)]
        call(chosen)
        place += task.rows
        if start >= begins:
            times.append(clock() - start)
    return times


def main() -> None:
    """Measure and answer."""
    task = Task(**json.loads(sys.argv[1]))
    texts: list[str] = json.loads(Path(task.texts).read_text(encoding="utf-8"))
    call, encode, width = _runner(task)
    times = 1000 * np.array(time_calls(call, texts, task, time.perf_counter))
    start = time.thread_time()
    tokens = [len(encode(text)) for text in texts[:TOKENISED]]
    tokenise_ms = 1000 * (time.thread_time() - start) / len(tokens)
    p50, p90, p99 = np.percentile(times, [50, 90, 99]).tolist()
    found = Alone(len(times), p50, p90, p99, float(times.mean()), _padded(tokens, task.rows, width), tokenise_ms)
    print(json.dumps(asdict(found)))


def _runner(task: Task) -> tuple[Callable[[Sequence[str]], object], Callable[[str], Sequence[int]], int]:
    """What answers texts, what tokenises one, and the multiple that rows are padded to."""
    from lnmt.telemetry import quiet

    quiet()
    from lnmt.bundles import Bundle
    from lnmt.runtime.predictor import Predictor

    predictor = Predictor.open(Bundle.open(Path(task.bundle)), threads=task.threads)

    def answer(texts: Sequence[str]) -> object:
        return predictor.scores(predictor.infer(predictor.encode(texts)).logits)

    def encode(text: str) -> Sequence[int]:
        return predictor.encode([text])[0]

    call: Callable[[Sequence[str]], object] = answer
    if task.runner == "peer":
        from benchmarks.serving_bench.servers.classifier import Classifier

        os.environ.update(BENCH_BUNDLE=task.bundle, BENCH_THREADS=str(task.threads))
        call = Classifier()
    return call, encode, predictor.bundle.manifest.pad_multiple


def _padded(tokens: Sequence[int], rows: int, multiple: int) -> float:
    """Mean number of padded tokens of calls of so many rows, each as wide as its longest."""
    batches = [tokens[start : start + rows] for start in range(0, len(tokens) - rows + 1, rows)]
    return float(np.mean([len(batch) * -(-max(batch) // multiple) * multiple for batch in batches]))


if __name__ == "__main__":
    main()
