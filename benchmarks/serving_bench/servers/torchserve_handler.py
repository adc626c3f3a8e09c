"""TorchServe: https://pytorch.org/serve/batch_inference_with_ts.html and …/configuration.html.

It is no longer maintained. Its models are archives; the one here holds this file, and the weights are read from the
bundle. Its front end runs on Java 11 or newer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.serving_bench.servers.classifier import BATCH_ROWS, BATCH_WAIT_S, Answer, Classifier

WAITING = 1000  # job_queue_size, 100 where nothing is said
classify: list[Classifier] = []  # one, when it is loaded


def handle(data: list[dict[str, Any]] | None, context: object) -> list[Answer] | None:
    """A batch of requests; None when the worker starts."""
    if data is None:
        classify.append(Classifier())
        return None
    return classify[0]([request["body"]["text"] for request in data])


def main() -> None:
    """Write archive and configuration, and become TorchServe."""
    programs, store = Path(sys.executable).parent, Path("store")
    store.mkdir()
    archiver = [str(programs / "torch-model-archiver"), "--model-name", "sentiment", "--version", "1.0"]
    handler = ["--handler", str(Path(__file__).resolve()), "--export-path", str(store)]
    subprocess.run([*archiver, *handler], check=True)
    ports = [os.environ["BENCH_PORT"], *os.environ["BENCH_OTHER_PORTS"].split(",")]
    names = ("inference_address", "management_address", "metrics_address")
    lines = [f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)]
    lines += [f"grpc_inference_port={ports[3]}", f"grpc_management_port={ports[4]}"]
    model = {"minWorkers": 1, "maxWorkers": 1, "batchSize": BATCH_ROWS, "maxBatchDelay": round(1000 * BATCH_WAIT_S)}
    described = {"defaultVersion": True, "marName": "sentiment.mar", "responseTimeout": 120, **model}
    lines += [f"job_queue_size={WAITING}", "async_logging=true", "disable_token_authorization=true"]
    lines += ["load_models=sentiment.mar", f"models={json.dumps({'sentiment': {'1.0': described}})}"]
    Path("config.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")
    start = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth"]
    where = ["--model-store", str(store), "--ts-config", "config.properties"]
    os.execv(sys.executable, [sys.executable, *start, *where])


if __name__ == "__main__":
    main()
