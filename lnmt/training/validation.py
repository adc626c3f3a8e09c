"""The validation split through the model as it stands.

Legend: N = rows, B = rows of a batch, T = tokens, C = labels, V = vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnmt.data.batches import Examples
from lnmt.models.base import Outputs, TrainingBatch
from lnmt.models.losses import IGNORED, task_loss
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.execution import Execution
from lnmt.training.feed import PAD_MULTIPLE, to_batch
from lnmt.training.metrics.base import TaskMetrics
from lnmt.training.metrics.classification import LabelMetrics
from lnmt.training.metrics.language import LanguageMetrics, score_tokens
from lnmt.training.metrics.multi_label import LabelSetMetrics
from lnmt.training.metrics.names import validation_names
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.training.metrics.tags import TagMetrics
from lnmt.types import PER_TOKEN, Task

ROWS = 64  # of a batch, at most
MAX_LOGITS = 2**25  # of a batch: 128 MiB in fp32


def validate(
    execution: Execution,
    examples: Examples,
    tokenizer: Tokenizer,
    task: Task,
    labels: Sequence[str],
    also: Sequence[str] = (),
) -> dict[str, float]:
    """The metrics of `validation_names(task)`, and those in `also`, over all rows.

    `loss` is without smoothing or class weights. `also` names others of `validation_names(task, labels)`.
    Sums are kept, never logits, so that memory does not grow with the split. Words beyond `max_tokens`
    do not count here. A split without rows has metrics of 0.
    """
    scorer = SCORERS[task](labels, examples)
    sums = np.zeros(scorer.metrics.size)
    loss, judged = 0.0, 0
    with execution.evaluating() as run:
        for batch, outputs in _batches(examples, tokenizer, task, run):
            units = scorer.units(batch)
            found = task_loss(task, outputs.logits, batch.labels, target_std=execution.model.target_std)
            loss += float(found) * units
            judged += units
            sums += scorer.metrics.total(scorer.rows(outputs.logits, batch))
    figures = {**scorer.metrics.points(sums), "loss": loss / max(judged, 1)}
    return {name: figures[name] for name in (*validation_names(task), *also)}


def _batches(
    examples: Examples, tokenizer: Tokenizer, task: Task, run: Callable[[TrainingBatch], Outputs]
) -> Iterator[tuple[TrainingBatch, Outputs]]:
    """Batches of rows of like length, as many of them as MAX_LOGITS allows.

    How many logits a token has, a vocabulary of them or a few tags, is seen in a first batch of one row.
    """
    lengths = examples.lengths
    widths = -(-lengths // PAD_MULTIPLE) * PAD_MULTIPLE
    order = np.argsort(lengths, kind="stable")
    start, each = 0, MAX_LOGITS if task in PER_TOKEN else 0
    while start < len(order):
        size = min(ROWS, len(order) - start)
        while size > 1 and size * int(widths[order[start + size - 1]]) * each > MAX_LOGITS:
            size -= 1
        batch = to_batch(examples, order[start : start + size], tokenizer)
        outputs = run(batch)
        if task in PER_TOKEN:
            each = outputs.logits.shape[-1]
        yield batch, outputs
        start += size


class Scorer(ABC):
    """How a task's outputs become rows of its metrics."""

    metrics: TaskMetrics

    @abstractmethod
    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        """Rows [B, D] of a batch's logits, fp32 on the CPU."""

    def units(self, batch: TrainingBatch) -> int:
        """What the loss is the mean over: rows, or the tokens that have a label."""
        return len(batch)


class _Labels(Scorer):
    def __init__(self, labels: Sequence[str], examples: Examples) -> None:
        self.metrics = LabelMetrics(labels)

    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        return torch.stack([batch.labels, logits.argmax(dim=1)], dim=1).double().numpy()


class _LabelSets(Scorer):
    def __init__(self, labels: Sequence[str], examples: Examples) -> None:
        self.metrics = LabelSetMetrics(labels)

    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        return LabelSetMetrics.rows(batch.labels.numpy(), logits.sigmoid().numpy())


class _Numbers(Scorer):
    def __init__(self, labels: Sequence[str], examples: Examples) -> None:
        self.metrics = NumberMetrics()
        self._centre = float(np.asarray(examples.labels).mean(dtype=np.float64)) if len(examples) else 0.0

    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        return NumberMetrics.rows(batch.labels.numpy(), logits[:, 0].numpy(), self._centre)


class _Tags(Scorer):
    metrics: TagMetrics

    def __init__(self, labels: Sequence[str], examples: Examples) -> None:
        self.metrics = TagMetrics(labels)

    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        judged = batch.labels != IGNORED
        return self.metrics.rows(
            batch.labels[judged].numpy(), logits.argmax(dim=2)[judged].numpy(), judged.sum(dim=1).numpy()
        )

    def units(self, batch: TrainingBatch) -> int:
        return int((batch.labels != IGNORED).sum())


class _Tokens(Scorer):
    def __init__(self, labels: Sequence[str], examples: Examples) -> None:
        self.metrics = LanguageMetrics()

    def rows(self, logits: Tensor, batch: TrainingBatch) -> NDArray[np.floating[Any]]:
        nats, tokens, right = score_tokens(logits, batch.input_ids, batch.attention_mask).T
        return np.column_stack([nats, tokens, np.zeros(len(nats)), right])  # blocks of tokens have no bytes of a text

    def units(self, batch: TrainingBatch) -> int:
        return int((batch.labels[:, 1:] != IGNORED).sum())


SCORERS: Mapping[Task, Callable[[Sequence[str], Examples], Scorer]] = {
    "text-classification": _Labels,
    "multi-label-classification": _LabelSets,
    "text-regression": _Numbers,
    "token-classification": _Tags,
    "text-generation": _Tokens,
}
