"""Does a candidate answer as the reference does?

What a flip is, by task: another label; any other label of several; another tag of a word; another
token that is expected next. Numbers do not flip: there the share is how far they moved on average,
in standard deviations of the target.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lnmt.optimization.answers import Answers, Validation, task_metrics
from lnmt.optimization.candidate import Parity
from lnmt.optimization.losses import target_spread
from lnmt.training.metrics.names import default_metric, higher_is_better
from lnmt.types import Task

UNITS: Mapping[Task, str] = {
    "text-classification": "labels",
    "multi-label-classification": "label sets",
    "text-regression": "numbers",
    "token-classification": "tags",
    "text-generation": "next tokens",
}


def compare_answers(reference: Answers, candidate: Answers, validation: Validation) -> Parity:
    """How far the candidate's answers to the split are from the reference's."""
    task = validation.task
    moved = np.abs(reference.numbers - candidate.numbers)
    spread = target_spread(validation)
    if task == "text-regression":
        flips, share = None, float(moved.mean()) / spread
    else:
        flips = int((reference.choices != candidate.choices).any(axis=1).sum())
        share = flips / max(len(reference.choices), 1)
    metrics, name = task_metrics(validation), default_metric(task)
    of_reference, value = (metrics.points(metrics.total(one.scored))[name] for one in (reference, candidate))
    return Parity(
        unit=UNITS[task],
        units=len(reference.choices),
        flips=flips,
        flip_share=share,
        metric=name,
        value=value,
        metric_loss=(of_reference - value if higher_is_better(name) else value - of_reference) / spread,
        max_difference=float(moved.max(initial=0.0)),
    )
