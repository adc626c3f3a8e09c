"""What the training loops beside each other share: the data, the start weights, the rounds, the score.

A loop runs in a process of its own, `python -m benchmarks.trainers.NAME SETTING`, and is told on its standard
input how many steps to do next; it answers each time with a line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from lnmt.data.batches import Examples, length_order, load_examples
from lnmt.files import read_json
from lnmt.models.base import BaseModel
from lnmt.params import TrainParams, load_params
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.prepare import TrainingData, prepare_model

SCORED_ROWS = 64  # of a batch


@dataclass(frozen=True)
class Setting:
    """A run of one of the loops; paths as text, so that it travels as JSON."""

    params: str  # params.yaml
    processed: str  # data/processed
    encoder: str
    work: str
    seed: int
    rows: int | None  # of the training split; None: all
    epochs: int
    precision: str

    def line(self) -> str:
        """As an argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def of_arguments(cls) -> Setting:
        """That of this process."""
        return cls(**json.loads(sys.argv[1]))

    @cached_property
    def options(self) -> TrainParams:
        """The stage's own, for one evaluation an epoch, which no timed part has, and no checkpoints between."""
        shipped = load_params(Path(self.params)).train.model_dump()
        changes = {
            "seed": self.seed,
            "epochs": self.epochs,
            "precision": self.precision,
            "patience": self.epochs + 1,
            "evaluations_per_epoch": 1,
            "checkpoint_s": 1e9,
        }
        return TrainParams.model_validate({**shipped, **changes})

    @cached_property
    def data(self) -> TrainingData:
        """The tokenised splits."""
        processed = Path(self.processed)
        manifest = read_json(processed / "manifest.json")
        tokenizer = Tokenizer(Path(self.encoder) / "tokenizer.json", self.options.max_tokens)
        labels = tuple(manifest["labels"])
        train, validation = (
            load_examples(
                processed / name,
                manifest["task"],
                labels,
                tokenizer,
                Progress(show=False),
                cache=Path(self.work).parent / "tokens",
            )
            for name in ("train", "validation")
        )
        train = train if self.rows is None else spread_rows(train, self.rows)
        return TrainingData(manifest["task"], labels, train, validation, tokenizer, Path(self.encoder), processed)

    def model(self) -> BaseModel:
        """A fresh one; the same weights for the same seed in every loop."""
        return prepare_model(self.options, self.data)


def spread_rows(examples: Examples, rows: int) -> Examples:
    """So many rows, evenly out of all: a split is in the order of its source files."""
    places = np.linspace(0, len(examples) - 1, rows).astype(np.int64)
    kept = examples.rows(places)
    return Examples(
        np.concatenate(kept),
        np.concatenate([[0], np.cumsum([len(row) for row in kept])]).astype(np.int64),
        examples.labels[places],
        examples.names(places),
        task=examples.task,
    )


class Rounds:
    """Timed rounds of steps, each at the word of the process above."""

    def __init__(self) -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print is no answer
        self._left = 0
        self._totals = {"rows": 0, "tokens": 0, "waited_s": 0.0}
        self._start = 0.0

    def begin(self) -> None:
        """Wait for the first round."""
        self._next()

    def step(self, rows: int, tokens: int, waited_s: float) -> None:
        """One step is done. After the last of a round: answer and wait for the next."""
        self._totals = {
            "rows": self._totals["rows"] + rows,
            "tokens": self._totals["tokens"] + tokens,
            "waited_s": self._totals["waited_s"] + waited_s,
        }
        self._left -= 1
        if self._left == 0:
            self.answer({**self._totals, "seconds": time.perf_counter() - self._start})
            self._next()

    def answer(self, found: dict[str, Any]) -> None:
        """A line for the process above."""
        self._answers.write(json.dumps({**found, "peak_mb": peak_mb()}) + "\n")

    def _next(self) -> None:
        asked = sys.stdin.readline()
        if not asked.strip():
            os._exit(0)  # the loop is in the middle of an epoch, and has nothing to tidy up
        self._left = int(asked)
        self._totals = {"rows": 0, "tokens": 0, "waited_s": 0.0}
        self._start = time.perf_counter()


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.no_grad()
def score(logits_of: Callable[[Any, Any], torch.Tensor], data: TrainingData) -> dict[str, float]:
    """Macro-F1 and accuracy on validation, in fp32; `logits_of` takes ids and mask [B, T] and gives [B, C]."""
    from sklearn.metrics import f1_score

    examples = data.validation
    predicted: NDArray[np.int64] = np.empty(len(examples), dtype=np.int64)
    for places in length_order(examples.lengths, SCORED_ROWS):
        batch = to_batch(examples, places, data.tokenizer)
        predicted[places] = logits_of(batch.input_ids, batch.attention_mask).argmax(dim=1).numpy()
    labels = np.asarray(examples.labels)
    return {
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
        "accuracy": float((labels == predicted).mean()),
    }
