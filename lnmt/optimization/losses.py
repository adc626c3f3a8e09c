"""What each text costs and whether its answer changed, as numbers in 0…1: what a candidate is judged by.

Tests that hold in finite samples need losses that have bounds, and texts are the units that were drawn: the words of
one text stand and fall together. So each text has one loss, by task:

- text-classification: 1 where the label is wrong.
- multi-label-classification: the share of the labels that are wrongly given or left out.
- token-classification: the share of its words that have a wrong tag.
- text-regression: |error| in standard deviations of the targets, at most 1: one deviation is what the mean misses by.
- text-generation: nats a token over LARGEST_NATS, at most 1.

Legend: N = texts, U = units (texts, words or tokens), S = bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.answers import Answers, Validation, task_metrics
from lnmt.stats.bootstrap import bootstrap_sums, cells
from lnmt.training.metrics.base import divide
from lnmt.training.metrics.multi_label import THRESHOLD
from lnmt.training.metrics.names import default_metric, higher_is_better
from lnmt.types import Task

LARGEST_NATS = 10.0  # of a token: one chance in 22,000, no better than a guess among a vocabulary


def text_losses(answers: Answers, validation: Validation) -> NDArray[np.float64]:
    """The loss of each text [N], in 0…1."""
    return _LOSSES[validation.task](answers, validation)


def whole_losses(task: Task) -> bool:
    """Whether a text's loss can only be 0 or 1: then the test of the mean is exact."""
    return task == "text-classification"


def text_flips(reference: Answers, candidate: Answers, validation: Validation) -> NDArray[np.bool_ | np.float64]:
    """How much of each text's answer changed [N]: whether it did (bool) where a text has one, otherwise in 0…1.

    Of tags and next tokens the share of the text's that differ; of numbers the move in standard deviations of the
    targets, at most 1. (`parity` counts units; here each text counts once, however long.)
    """
    task = validation.task
    if task == "text-regression":
        moved = np.abs(reference.numbers[:, 0].astype(np.float64) - candidate.numbers[:, 0])
        return np.asarray(np.minimum(moved / target_spread(validation), 1.0))
    changed = (reference.choices != candidate.choices).any(axis=1)
    if task not in _UNITS:
        return np.asarray(changed)
    units = reference.scored[:, _UNITS[task]].astype(np.int64)  # [N]
    owner = np.repeat(np.arange(len(units)), units)
    return divide(np.bincount(owner, weights=changed, minlength=len(units)), units)


def target_spread(validation: Validation) -> float:
    """The standard deviation of a regression's targets; 1 where they are all alike, and for other tasks."""
    if validation.task != "text-regression":
        return 1.0
    return float(np.std(np.asarray(validation.targets, dtype=np.float64))) or 1.0


@dataclass(frozen=True)
class MetricLoss:
    """How much worse the task's metric is than the reference's, negative where better."""

    metric: str
    estimate: float  # of numbers in standard deviations of the targets
    samples: NDArray[np.float64]  # [S], the same in bootstrap samples of the texts


def metric_loss(
    reference: Answers, candidate: Answers, validation: Validation, *, samples: int, seed: int
) -> MetricLoss:
    """Of the task's own metric, by a paired bootstrap: each text is drawn with both answers to it.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, §8.3. A metric such as macro-F1 is no mean over texts,
    so that nothing exact is known of it: `certify` asks this beside the exact parts, never in their place.
    """
    metrics, name = task_metrics(validation), default_metric(validation.task)
    pairs = np.column_stack([metrics.coarse(reference.scored), metrics.coarse(candidate.scored)]).astype(np.float64)
    kept, counts = cells(pairs)
    first, second = np.split(kept, 2, axis=1)

    def both(part: slice) -> NDArray[np.float64]:
        return np.concatenate([metrics.statistics(first[part]), metrics.statistics(second[part])], axis=1)

    def loss(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        before, after = (metrics.metrics(half)[..., metrics.names.index(name)] for half in np.split(sums, 2, axis=-1))
        worse = before - after if higher_is_better(name) else after - before
        return np.asarray(worse / target_spread(validation))

    total = np.concatenate([metrics.total(one.scored) for one in (reference, candidate)])
    drawn = bootstrap_sums(counts, both, samples, np.random.default_rng(seed))
    return MetricLoss(name, float(loss(total)), loss(drawn))


def _label(answers: Answers, _: Validation) -> NDArray[np.float64]:
    return np.asarray(answers.scored[:, 0] != answers.scored[:, 1], dtype=np.float64)


def _labels(answers: Answers, _: Validation) -> NDArray[np.float64]:
    actual, scores = np.split(answers.scored, 2, axis=1)
    return np.asarray(((actual > 0) != (scores >= THRESHOLD)).mean(axis=1))


def _number(answers: Answers, validation: Validation) -> NDArray[np.float64]:
    error = np.abs(answers.scored[:, 0] - answers.scored[:, 1])
    return np.asarray(np.minimum(error / target_spread(validation), 1.0))


def _tags(answers: Answers, _: Validation) -> NDArray[np.float64]:
    right, words = answers.scored[:, -2], answers.scored[:, -1]
    return divide(words - right, words)


def _tokens(answers: Answers, _: Validation) -> NDArray[np.float64]:
    nats, tokens = answers.scored[:, 0], answers.scored[:, 1]
    return np.asarray(np.minimum(divide(nats, tokens) / LARGEST_NATS, 1.0))


_LOSSES: Mapping[Task, Callable[[Answers, Validation], NDArray[np.float64]]] = {
    "text-classification": _label,
    "multi-label-classification": _labels,
    "text-regression": _number,
    "token-classification": _tags,
    "text-generation": _tokens,
}
# The column of `scored` that says how many units a text has, where it is not one.
_UNITS: Mapping[Task, int] = {"token-classification": -1, "text-generation": 1}
