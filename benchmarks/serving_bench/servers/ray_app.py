"""Ray Serve: https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html, and "Performance Tuning"."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving_bench.servers.classifier import BATCH_ROWS, BATCH_WAIT_S, Answer, Classifier, cores

WAITING = 1000  # "Performance Tuning": max_ongoing_requests is 5 where nothing is said, less than a batch


class Sentiment:
    """One replica: two would halve the batches."""

    def __init__(self) -> None:
        self._classify = Classifier()

    @serve.batch(max_batch_size=BATCH_ROWS, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def classify(self, texts: list[str]) -> list[Answer]:
        """One answer a text, beside the event loop: the throughput flags of `peers.py` have only one."""
        return await asyncio.to_thread(self._classify, texts)

    async def __call__(self, request: Request) -> Answer:
        """POST {"text": …}."""
        answer: Answer = await self.classify((await request.json())["text"])
        return answer


if __name__ == "__main__":
    ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deployed = serve.deployment(max_ongoing_requests=WAITING, ray_actor_options={"num_cpus": 1})(Sentiment)
    serve.run(deployed.bind())
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())  # Ray ends its processes when this one exits
    signal.pause()
