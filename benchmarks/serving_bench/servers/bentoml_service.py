"""BentoML: https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html, its example with our model."""

from __future__ import annotations

import os
import sys

import bentoml

from benchmarks.serving_bench.servers.classifier import BATCH_ROWS, Answer, Classifier

MAX_LATENCY_MS = 10_000  # "Error handling" of that page: above it requests get 503, so more than the queue ever takes


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Sentiment:
    """One worker with all cores: the page batches within a worker, so that two would halve the batches."""

    def __init__(self) -> None:
        self.classify_texts = Classifier()

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=BATCH_ROWS, max_latency_ms=MAX_LATENCY_MS
    )
    def classify(self, texts: list[str]) -> list[Answer]:
        """One answer a text."""
        return self.classify_texts(texts)


if __name__ == "__main__":
    service = "benchmarks.serving_bench.servers.bentoml_service:Sentiment"
    where = ["--host", "127.0.0.1", "--port", os.environ["BENCH_PORT"]]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service, *where])
