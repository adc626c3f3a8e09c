"""A tiny project and loop to train in a second; run as a script, it trains and is sent a signal at a step.

`python -m tests.training.training_kit PROJECT STEP SIGNAL`
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lnmt.bundles import Lineage
from lnmt.data.batches import Examples
from lnmt.files import write_json
from lnmt.models import build_model
from lnmt.models.base import BaseModel
from lnmt.params import TrainParams, load_params
from lnmt.progress import Bar, Progress
from lnmt.stages import StageIO, find_stage
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.callbacks.record_curve import RecordCurve
from lnmt.training.callbacks.stop_early import StopEarly
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.execution import Execution
from lnmt.training.loop import Loop
from lnmt.training.train import train
from lnmt.training.validation import validate
from lnmt.types import Task
from tests.tiny_bundle import LABELS, tiny_encoder, tiny_setup

REPOSITORY = Path(__file__).parents[2]
ENCODER = "encoder"  # directory of the project
SIGNS = {"negative": ("bad", "awful", "hate"), "neutral": ("okay", "price"), "positive": ("good", "great", "love")}
FILLING = ("the", "a", "film", "book", "phone", "it", "was", "this")

Rows = list[tuple[str, str, str | None]]  # id, text, label


def train_params(**changes: Any) -> TrainParams:
    """The shipped parameters for a tiny encoder: 10 steps of 16 an epoch for 160 rows, two evaluations."""
    shipped = load_params(REPOSITORY / "params.yaml").train.model_dump()
    tiny = {
        "encoder": f"local:{ENCODER}",
        "digest": None,
        "max_tokens": 20,
        "epochs": 2,
        "batch_size": 16,
        "precision": "fp32",
        "patience": 10,
        "optimizer": {"name": "adamw", "lr": 2e-2, "weight_decay": 0.01},
    }
    return TrainParams.model_validate({**shipped, **tiny, **changes})


def make_rows(split: str, count: int, labels: Sequence[str] = LABELS) -> Rows:
    """Rows whose label one word gives away."""
    random = np.random.default_rng(count)
    rows: Rows = []
    for place in range(count):
        label = labels[place % len(labels)]
        words = [*random.choice(FILLING, random.integers(1, 9)), random.choice(SIGNS[label])]
        rows.append((f"{split}-{place}", " ".join(random.permutation(words)), label))
    return rows


def write_split(directory: Path, rows: Rows) -> Path:
    """A split as `process` leaves it."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "label")])
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)
    pq.write_table(table, directory / "part-00000.parquet")
    return directory


def make_project(root: Path, **splits: Rows) -> Path:
    """data/processed and an encoder; 160 rows to train on, 60 to validate on, unless given."""
    rows = {"train": make_rows("train", 160), "validation": make_rows("validation", 60)} | splits
    for name, split in rows.items():
        write_split(root / "data/processed" / name, split)
    manifest = {
        "task": "text-classification",
        "labels": list(LABELS),
        "slices": [],
        "processors": [{"name": "whitespace"}],
        "rows": {},
    }
    write_json(root / "data/processed/manifest.json", manifest)
    tiny_encoder(root / ENCODER)
    return root


def run_train(root: Path, params: TrainParams | None = None, progress: Progress | None = None) -> None:
    """The stage, as `run_stage` would call it, with a work directory that stays the same."""
    whole = load_params(REPOSITORY / "params.yaml").model_copy(update={"train": params or train_params()})
    lineage = Lineage(commit=None, dirty=False, params="sha256:" + "1" * 64, lock="sha256:" + "2" * 64)
    progress = progress or Progress(root / "progress.jsonl", show=False)
    io = StageIO(root, find_stage("train"), root / "work", root / "cache", True, lineage, progress, root / ".lnmt")
    train(whole.only(("plugins", "train")), io)


def tiny_examples(rows: int, seed: int = 0, labels: int = 3) -> Examples:
    """Random token ids, 3 to 14 a row."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 15, rows)
    return Examples(
        tokens=random.integers(5, 80, int(lengths.sum())).astype(np.int32),
        starts=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        labels=(np.arange(rows) % labels).astype(np.int64),
        ids=[f"row-{place}" for place in range(rows)],
    )


def tiny_model(encoder: Path, options: TrainParams | None = None, task: Task = "text-classification") -> BaseModel:
    """A fresh model of the family that `options` name, for LABELS."""
    options = options or train_params()
    setup = tiny_setup(encoder, task, options=options.model.options, max_tokens=options.max_tokens, seed=options.seed)
    return build_model(options.model, setup)


def make_loop(directory: Path, encoder: Path, progress: Progress | None = None, **changes: Any) -> Loop:
    """A loop over random rows, its checkpoints below `directory`; `changes` are of the parameters."""
    options = train_params(**changes)
    tokenizer = Tokenizer(encoder / "tokenizer.json", options.max_tokens)
    progress = progress or Progress(show=False)
    execution = Execution(
        tiny_model(encoder, options), options, precision="fp32", compiled=False, device=torch.device("cpu")
    )
    return Loop(
        execution=execution,
        tokenizer=tokenizer,
        train=tiny_examples(96),
        validate=partial(
            validate,
            examples=tiny_examples(30, seed=1),
            tokenizer=tokenizer,
            task="text-classification",
            labels=LABELS,
        ),
        options=options,
        checkpoints=Checkpoints(directory / "checkpoints", {}, keep=options.keep_checkpoints, note=progress.note),
        progress=progress,
        work=directory,
        logs=directory / "logs",
        callbacks={
            "curve": RecordCurve(flops_per_token=1e6, peak_flops=1e9),
            "stop-early": StopEarly(options.patience),
        },
    )


class SignalBar(Bar):
    """A bar that sends this process a signal when `step` steps have gone over it."""

    step = 0
    signal = 0

    def advance(self, amount: int = 1, **values: Any) -> None:
        super().advance(amount, **values)
        if "loss" in values:
            type(self).step -= 1
            if type(self).step == 0:
                os.kill(os.getpid(), self.signal)


class SignalProgress(Progress):
    """Progress whose training bar is a SignalBar."""

    def __init__(self, step: int, signal: int) -> None:
        super().__init__(show=False)
        SignalBar.step, SignalBar.signal = step, signal

    @contextmanager
    def bar(self, what: str, total: int | None = None, unit: str = "rows") -> Iterator[Bar]:
        yield SignalBar(self, what, total, unit, show=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        run_train(Path(sys.argv[1]), progress=SignalProgress(int(sys.argv[2]), int(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(130)  # as the command does
