"""The loss of each task.

Legend: B = rows, T = tokens, C = labels, V = vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lnmt.types import IGNORED, Task

__all__ = ["IGNORED", "count_targets", "task_loss"]


def task_loss(
    task: Task,
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    target_std: float = 1.0,
) -> Tensor:
    """The mean loss, a scalar in fp32.

    text-classification: cross-entropy of logits [B, C] and labels [B] int64.
    token-classification: the same over the tokens whose label is not IGNORED: [B, T, C], [B, T] int64.
    text-generation: the same, each token against the next one of its row: [B, T, V], [B, T] int64.
    multi-label-classification: binary cross-entropy of [B, C] and labels [B, C] floats, 0 or 1.
    text-regression: mean squared error of [B, 1] and [B] floats, in units of `target_std`.

    `label_smoothing` in 0…1 (Szegedy et al., Rethinking the Inception Architecture, 2016): the share of
    the target spread over all labels, in multi-label over yes and no; regression has none. `class_weights` [C]:
    the weight of a row or token by its label, in multi-label of a label's positive rows against its negative
    ones; regression and generation have none. A batch without a single label has loss 0.
    """
    logits = logits.float()
    if task == "text-regression":
        return functional.mse_loss(logits.squeeze(1), labels.float()) / target_std**2
    if task == "multi-label-classification":
        targets = labels.float() * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=class_weights)
    if task == "text-generation":
        # The labels move, not the logits: these are the largest tensor there is, and would be copied.
        end = labels.new_full((len(labels), 1), IGNORED)
        labels, class_weights = torch.cat([labels[:, 1:], end], dim=1), None
    flat = labels.flatten()
    total = functional.cross_entropy(
        logits.flatten(0, -2),
        flat,
        weight=class_weights,
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    known = flat != IGNORED
    weights = known.float() if class_weights is None else class_weights[flat.clamp(min=0)] * known
    # torch's own mean is 0 / 0 where no token has a label.
    return total / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)


def count_targets(task: Task, labels: Tensor) -> int:
    """How many terms the mean of `task_loss` has: rows, or the tokens that have a label."""
    if task == "text-generation":
        labels = labels[:, 1:]
    if task in ("token-classification", "text-generation"):
        return int((labels != IGNORED).sum())
    return len(labels)
