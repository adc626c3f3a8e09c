"""Data to tune on: words that give the label away, tokenised; no stage is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnmt.data.batches import Examples
from lnmt.params import TuneParams
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.prepare import TrainingData
from tests.tiny_bundle import LABELS, tiny_encoder
from tests.training.training_kit import Rows, make_rows


def tokenised(rows: Rows, tokenizer: Tokenizer) -> Examples:
    encoded = tokenizer.encode([text for _, text, _ in rows])
    lengths = [len(row) for row in encoded]
    return Examples(
        tokens=np.array([token for row in encoded for token in row], dtype=np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=np.array([LABELS.index(str(label)) for _, _, label in rows], dtype=np.int64),
        ids=[name for name, _, _ in rows],
    )


def tiny_data(root: Path, rows: int = 96) -> TrainingData:
    encoder = tiny_encoder(root / "encoder")
    tokenizer = Tokenizer(encoder / "tokenizer.json", 20)
    train, validation = tokenised(make_rows("train", rows), tokenizer), tokenised(make_rows("v", 30), tokenizer)
    return TrainingData("text-classification", LABELS, train, validation, tokenizer, encoder, root)


def tune_params(**changes: object) -> TuneParams:
    base = {
        "trials": 4,
        "timeout_s": None,
        "sampler": "random",
        "pruner": "none",
        "space": {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "batch_size": {"choices": [8, 16]}},
        "seed": 7,
    }
    return TuneParams.model_validate({**base, **changes})
