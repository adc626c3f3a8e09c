"""What a run starts from: the data to learn from, and the model that is to learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lnmt.bundles import Bundle
from lnmt.data.batches import Examples, batch_order
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import build_model, load_model
from lnmt.models.base import BaseModel, ModelSetup, TrainingBatch
from lnmt.models.lora import add_lora
from lnmt.params import TrainParams
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.teacher import Teacher, teach
from lnmt.types import Task

PROBE_BATCHES = 6  # on which choices are measured


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from."""

    task: Task
    labels: tuple[str, ...]
    train: Examples
    validation: Examples
    tokenizer: Tokenizer
    encoder: Path  # directory of the pretrained model
    where: Path  # of the splits, for errors
    start: Bundle | None = None  # a trained model to go on from, in place of a fresh one
    teacher: Teacher | None = None  # another one, whose answers are learnt beside the labels


def check_rows(data: TrainingData) -> None:
    """Raise LnmtError where there is nothing to learn, or nothing to choose by."""
    for name, rows in (("train", data.train), ("validation", data.validation)):
        if len(rows) == 0:
            raise LnmtError(
                f"the {name} split has no rows",
                where=data.where / name,
                value="0 rows",
                allowed="at least 1",
                fix="give more data, or another process.split or process.salt",
            )
        if data.task == "text-classification":
            present = [data.labels[place] for place in np.unique(rows.labels).tolist()]
            if len(present) < 2:
                raise LnmtError(
                    f"the {name} split has one label only",
                    where=data.where / name,
                    value=f"{len(rows)} rows, all {present[0]!r}",
                    allowed=f"rows of at least two of: {', '.join(data.labels)}",
                    fix="give more data, or another process.split or process.salt",
                )


def prepare_model(options: TrainParams, data: TrainingData) -> BaseModel:
    """A fresh model for `data`, or the one it starts from, as `options` want it trained."""
    if data.start is None:
        model = fresh_model(options, data)
    else:
        check_start(data.start, data)
        model = load_model(data.start).train()
    if data.task == "text-regression":
        model.fit_targets(torch.from_numpy(np.asarray(data.train.labels)))
    model.use_loss(label_smoothing=options.label_smoothing, class_weights=class_weights(options, data))
    if options.lora is not None:
        add_lora(model, options.lora, seed=options.seed)
    if options.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if data.teacher is not None:
        teach(model, data.teacher)
    return model


def fresh_model(options: TrainParams, data: TrainingData) -> BaseModel:
    """An untrained head on the pretrained weights."""
    setup = ModelSetup(
        task=data.task,
        labels=data.labels,
        options=options.model.options,
        encoder=data.encoder,
        vocabulary=data.tokenizer.vocabulary,
        max_tokens=options.max_tokens,
        pad_id=data.tokenizer.pad_id,
        seed=options.seed,
    )
    return build_model(options.model, setup)


def check_start(start: Bundle, data: TrainingData) -> None:
    """Raise LnmtError where a trained model cannot learn from `data`."""
    manifest = start.manifest
    found = (manifest.task, tuple(manifest.labels), manifest.engine, manifest.precision)
    if found != (data.task, data.labels, "torch", "fp32"):
        raise LnmtError(
            "this trained model cannot go on learning from these data",
            where=start.path,
            value=f"{found[0]} of {', '.join(found[1]) or 'no labels'}, for {found[2]} in {found[3]}",
            allowed=f"{data.task} of {', '.join(data.labels) or 'no labels'}, for torch in fp32",
            fix="start from models/trained with the same label set, or train a fresh model",
        )


def probe_batches(options: TrainParams, data: TrainingData) -> list[TrainingBatch]:
    """The first batches of the run."""
    order = batch_order(data.train.lengths, options.batch_size, options.seed, 0)
    return [to_batch(data.train, places, data.tokenizer) for places in order[:PROBE_BATCHES]]


def class_weights(options: TrainParams, data: TrainingData) -> torch.Tensor | None:
    """The weight of each label in the loss [C]; balanced: rows / (labels × rows of the label), as scikit-learn has it.

    In multi-label: negative rows / positive rows of the label.
    """
    if options.class_weights is None:
        return None
    where = "params.yaml: train.class_weights"
    if data.task in ("text-regression", "text-generation"):
        raise LnmtError(f"{data.task} has no labels to weigh", where=where, allowed="null", fix="set it to null")
    if isinstance(options.class_weights, dict):
        for name in options.class_weights:
            if name not in data.labels:
                raise UnknownName("label", name, data.labels, where=where)
        return torch.tensor([options.class_weights.get(name, 1.0) for name in data.labels])
    labels = np.asarray(data.train.labels)
    if data.task == "multi-label-classification":
        positive = labels.sum(axis=0)
        return torch.from_numpy(((len(labels) - positive) / np.maximum(positive, 1)).astype(np.float32))
    counts = np.bincount(labels[labels >= 0], minlength=len(data.labels))
    return torch.from_numpy((counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32))
