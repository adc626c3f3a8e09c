"""LitServe: https://lightning.ai/docs/litserve/features/batching, and its page "Speed up serving by 200x"."""

from __future__ import annotations

import os

import litserve

from benchmarks.serving_bench.servers.classifier import BATCH_ROWS, BATCH_WAIT_S, Answer, Classifier


class Sentiment(litserve.LitAPI):  # type: ignore[misc]
    """Requests in batches."""

    def setup(self, device: str) -> None:
        """Once a worker."""
        self.classify = Classifier()

    # LitServe makes the route from these annotations; its documents have none
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The text of one."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[Answer]:
        """Of a batch."""
        return self.classify(texts)

    def encode_response(self, answer):  # type: ignore[no-untyped-def]
        """Of one."""
        return answer


if __name__ == "__main__":
    api = Sentiment(max_batch_size=BATCH_ROWS, batch_timeout=BATCH_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    port = int(os.environ["BENCH_PORT"])
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False, access_log=False)
