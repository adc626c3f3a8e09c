"""MLServer: https://mlserver.readthedocs.io/en/latest/user-guide/adaptive-batching.html and …/custom.html."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving_bench.servers.classifier import BATCH_ROWS, BATCH_WAIT_S, Classifier


class Sentiment(MLModel):  # type: ignore[misc]
    """A custom runtime."""

    async def load(self) -> bool:
        """Once a worker."""
        self._classify = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Of a batch: each text's answer as JSON."""
        texts = StringCodec.decode_input(payload.inputs[0])
        answers = await asyncio.to_thread(self._classify, texts)
        output = StringCodec.encode_output("answer", [json.dumps(answer) for answer in answers])
        return InferenceResponse(model_name=self.name, outputs=[output])


if __name__ == "__main__":
    http, grpc, metrics = os.environ["BENCH_PORT"], *os.environ["BENCH_OTHER_PORTS"].split(",")[:2]
    # "Parallel inference" of the same guide: 0 workers, so that a model that releases the interpreter's lock stays in
    # the main process, and nothing is copied between two
    settings = {"debug": False, "host": "127.0.0.1", "http_port": int(http), "grpc_port": int(grpc)}
    settings |= {"metrics_port": int(metrics), "parallel_workers": 0}
    model = {"name": "sentiment", "implementation": "benchmarks.serving_bench.servers.mlserver_runtime.Sentiment"}
    batching = {"max_batch_size": BATCH_ROWS, "max_batch_time": BATCH_WAIT_S}
    Path("settings.json").write_text(json.dumps(settings), encoding="utf-8")
    Path("model-settings.json").write_text(json.dumps(model | batching), encoding="utf-8")
    os.execv(sys.executable, [sys.executable, str(Path(sys.executable).with_name("mlserver")), "start", "."])
