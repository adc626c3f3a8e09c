"""Real texts as real traffic: a few clients at once, each request from a user of its own."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lnmt.client import Answer, Client

CLIENTS = 8
SEED = 7


@dataclass(frozen=True)
class Traffic:
    """What came back for a batch of texts, in their order."""

    answers: list[Answer]
    labels: list[str]
    seconds: float

    def accuracy(self) -> float:
        """Share of the answers that are the true label."""
        return sum(a.label == t for a, t in zip(self.answers, self.labels, strict=True)) / len(self.labels)

    def share(self, arm: str) -> float:
        """Share of the answers that this arm gave."""
        return sum(answer.arm == arm for answer in self.answers) / len(self.answers)


def rows(split: Path, limit: int) -> tuple[list[str], list[str]]:
    """Texts and labels of a processed split in random order, at most `limit`; the same ones each time."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(split, columns=["text", "label"])
    table = table.take(np.random.default_rng(SEED).permutation(table.num_rows)[:limit])
    return table["text"].to_pylist(), table["label"].to_pylist()


def send(url: str, what: str, texts: Sequence[str], labels: Sequence[str]) -> Traffic:
    """Ask the service about every text, eight requests at a time."""
    start = time.monotonic()
    bar = tqdm(total=len(texts), desc=f"traffic: {what}", unit=" requests", disable=None)
    with bar, ThreadPoolExecutor(CLIENTS) as pool:
        free: queue.SimpleQueue[Client] = queue.SimpleQueue()
        for _ in range(CLIENTS):
            free.put(Client(url))

        def ask(row: tuple[int, str]) -> Answer:
            client = free.get()
            try:
                return client.predict(row[1], user=f"{what}-{row[0]}")
            finally:
                free.put(client)
                bar.update()

        answers = list(pool.map(ask, enumerate(texts)))
        for _ in range(CLIENTS):
            free.get().close()
    return Traffic(answers, list(labels), time.monotonic() - start)
