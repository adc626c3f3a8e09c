"""What an engine says of the validation split, by task: kept small enough to hold beside the reference's.

Legend: N = texts, C = labels, W = words or tokens of all texts, U = units (texts, words or tokens), K = numbers and
J = choices of a unit, D = numbers that a metric reads of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.data.labels import check_words
from lnmt.progress import Progress
from lnmt.runtime.answers import expect_tokens, tag_words
from lnmt.runtime.predictor import Predictor
from lnmt.training.metrics.base import TaskMetrics
from lnmt.training.metrics.classification import LabelMetrics
from lnmt.training.metrics.language import LanguageMetrics
from lnmt.training.metrics.multi_label import LabelSetMetrics
from lnmt.training.metrics.regression import NumberMetrics
from lnmt.training.metrics.tags import NO_TAG, TagMetrics
from lnmt.types import Task

CHUNK_ROWS = 1024  # texts given to a predictor at once: the bar moves between


@dataclass(frozen=True)
class Validation:
    """The split on which candidates are held against the reference."""

    task: Task
    labels: list[str]
    texts: list[str]  # [N]
    ids: list[str]  # [N]
    targets: Any  # as `lnmt.data.labels.parse_labels` gives them
    where: object  # the split's directory, for errors


@dataclass(frozen=True)
class Answers:
    """An engine's answers to the whole split, in its order."""

    numbers: NDArray[np.float32]  # [U, K], what another engine may move a little; a word without a token has none
    choices: NDArray[np.int64]  # [U, J], what is decided by them; none for regression
    scored: NDArray[np.float64]  # [N, D], rows of the task's metrics


def collect(predictor: Predictor, validation: Validation, progress: Progress, name: str) -> Answers:
    """Run `predictor` over the split. Raises LnmtError where its engine cannot."""
    read = _READ[validation.task]
    parts = []
    with progress.bar(f"parity {name}", len(validation.texts)) as bar:
        for start in range(0, len(validation.texts), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            parts.append(read(predictor, validation, rows))
            bar.advance(len(validation.texts[rows]))
    return Answers(
        *(np.concatenate([getattr(part, field) for part in parts]) for field in ("numbers", "choices", "scored"))
    )


def task_metrics(validation: Validation) -> TaskMetrics:
    """The metrics of the split's task, without those that need calibrated scores."""
    task, labels = validation.task, validation.labels
    if task == "text-regression":
        return NumberMetrics()
    if task == "text-generation":
        return LanguageMetrics()
    return _BY_LABELS[task](labels)


def _label(predictor: Predictor, validation: Validation, rows: slice) -> Answers:
    logits = predictor.outputs(validation.texts[rows])[0].logits
    best = logits.argmax(axis=1)
    return Answers(logits, best[:, None], np.column_stack([validation.targets[rows], best]).astype(np.float64))


def _labels(predictor: Predictor, validation: Validation, rows: slice) -> Answers:
    logits = predictor.outputs(validation.texts[rows])[0].logits
    scores = predictor.scores(logits)
    return Answers(logits, (scores >= 0.5).astype(np.int64), LabelSetMetrics.rows(validation.targets[rows], scores))


def _number(predictor: Predictor, validation: Validation, rows: slice) -> Answers:
    values = predictor.outputs(validation.texts[rows])[0].logits
    scored = NumberMetrics.rows(validation.targets[rows], values[:, 0], centre=float(np.mean(validation.targets)))
    return Answers(values, np.empty((len(values), 0), np.int64), scored)


def _tags(predictor: Predictor, validation: Validation, rows: slice) -> Answers:
    tagged = tag_words(predictor, validation.texts[rows])
    targets: Sequence[NDArray[np.int64]] = validation.targets[rows]
    words = [" ".join(one.words) for one in tagged]
    check_words(targets, words, validation.ids[rows], where=f"{validation.where}, after the bundle's processors")
    logits = np.concatenate([one.logits for one in tagged])
    chosen = [NO_TAG if place is None else place for one in tagged for place in one.tags()]
    choices = np.array(chosen, dtype=np.int64)
    lengths = np.array([len(one.words) for one in tagged], dtype=np.int64)
    scored = TagMetrics(validation.labels).rows(np.concatenate(targets), choices, lengths)
    return Answers(logits[choices != NO_TAG], choices[:, None], scored)


def _tokens(predictor: Predictor, validation: Validation, rows: slice) -> Answers:
    texts = validation.texts[rows]
    found = expect_tokens(predictor, texts)
    scored = [
        (one.losses.sum(dtype=np.float64), len(one.tokens), len(text.encode()), (one.likeliest == one.tokens).sum())
        for one, text in zip(found, texts, strict=True)
    ]
    return Answers(
        np.concatenate([one.losses for one in found])[:, None],
        np.concatenate([one.likeliest for one in found])[:, None],
        np.array(scored, dtype=np.float64),
    )


_READ: Mapping[Task, Callable[[Predictor, Validation, slice], Answers]] = {
    "text-classification": _label,
    "multi-label-classification": _labels,
    "text-regression": _number,
    "token-classification": _tags,
    "text-generation": _tokens,
}
_BY_LABELS: Mapping[Task, Callable[[Sequence[str]], TaskMetrics]] = {
    "text-classification": LabelMetrics,
    "multi-label-classification": LabelSetMetrics,
    "token-classification": TagMetrics,
}
