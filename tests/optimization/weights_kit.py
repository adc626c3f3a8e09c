"""A workshop around a tiny model that has learnt something, and the engines' answers of what came out of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.data.batches import Examples
from lnmt.models import WEIGHTS
from lnmt.models.base import BaseModel, Inputs
from lnmt.optimization.backends import Source
from lnmt.optimization.export import export_onnx
from lnmt.optimization.workshop import Workshop
from lnmt.params import FineTune
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.prepare import TrainingData
from lnmt.types import Batch
from tests.tiny_bundle import LABELS
from tests.training.training_kit import make_rows, train_params

Rows = Sequence[tuple[str, str, str | None]]  # id, text, label


def examples(rows: Rows, tokenizer: Tokenizer) -> Examples:
    """Rows as the training engine takes them."""
    found = [np.array(tokens, np.int32) for tokens in tokenizer.encode([text for _, text, _ in rows])]
    return Examples(
        tokens=np.concatenate([np.empty(0, np.int32), *found]),
        starts=np.cumsum([0, *map(len, found)]).astype(np.int64),
        labels=np.array([LABELS.index(str(label)) for *_, label in rows], np.int64),
        ids=[name for name, *_ in rows],
    )


def workshop(
    bundle: Bundle,
    work: Path,
    *,
    train: Rows | None = None,
    validation: Rows | None = None,
    epochs: int = 1,
    progress: Progress | None = None,
) -> Workshop:
    """160 rows to learn from, 60 to choose by, unless given; 10 steps an epoch."""
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.max_tokens)
    data = TrainingData(
        "text-classification",
        LABELS,
        examples(make_rows("train", 160) if train is None else train, tokenizer),
        examples(make_rows("validation", 60) if validation is None else validation, tokenizer),
        tokenizer,
        bundle.path,
        work,
    )
    return Workshop(
        bundle=bundle,
        data=data,
        train=train_params(),
        tuning=FineTune(epochs=epochs, lr=1e-3),
        calibration_rows=64,
        work=work / "own",
        shared=work / "shared",
        progress=progress or Progress(show=False),
        seed=7,
    )


def as_bundle(model: BaseModel, parent: Bundle, target: Path) -> Bundle:
    """`model` on the disk, as the stage writes what a compression made."""
    kept = {name: getattr(parent.manifest, name) for name in Draft.model_fields}
    draft = Draft(**{**kept, "model": model.describe(str(parent.manifest.model["name"]))})
    with new_bundle(target, draft) as directory:
        model.save(directory / WEIGHTS)
        shutil.copyfile(parent.file("tokenizer.json"), directory / "tokenizer.json")
    return Bundle.open(target)


def inputs_of(batch: Batch) -> Inputs:
    """A batch as models take it."""
    return {
        "input_ids": torch.from_numpy(batch.input_ids),
        "attention_mask": torch.from_numpy(batch.attention_mask),
    }


def logits(model: BaseModel, batches: Sequence[Batch]) -> NDArray[np.float32]:
    """What `model` answers to `batches`, [N, C]."""
    with torch.inference_mode():
        return np.concatenate([model.eval()(inputs_of(batch))[0].numpy() for batch in batches])


def exported_logits(bundle: Bundle, work: Path, batches: Sequence[Batch]) -> NDArray[np.float32]:
    """What ONNX Runtime answers to `batches` with the exported graph, [N, C]."""
    work.mkdir(parents=True, exist_ok=True)
    session = onnxruntime.InferenceSession(str(export_onnx(Source(bundle, work))), providers=["CPUExecutionProvider"])
    feeds = [{"input_ids": batch.input_ids, "attention_mask": batch.attention_mask} for batch in batches]
    return np.concatenate([session.run(["logits"], feed)[0] for feed in feeds])
