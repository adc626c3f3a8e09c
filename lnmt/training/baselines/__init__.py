"""What the model has to beat: simple predictors by name, run on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence

from lnmt.errors import LnmtError
from lnmt.plugins.table import Table
from lnmt.training.baselines.baseline import Baseline, TextBaseline, TokenBaseline
from lnmt.types import Task

BASELINES: Table[type[Baseline]] = Table(
    "baseline",
    {
        "frequent_tag": "lnmt.training.baselines.constant:FrequentTag",
        "majority": "lnmt.training.baselines.constant:Majority",
        "mean": "lnmt.training.baselines.constant:Mean",
        "prior": "lnmt.training.baselines.constant:Prior",
        "tfidf": "lnmt.training.baselines.tfidf:Tfidf",
        "unigram": "lnmt.training.baselines.unigram:Unigram",
        "vader": "lnmt.training.baselines.vader:Vader",
    },
)


def open_baseline(name: str, task: Task, labels: Sequence[str], seed: int) -> Baseline:
    """The baseline `name`, which has learnt nothing yet.

    Raises UnknownName for one that is not there, LnmtError for one of another task.
    """
    where = "params.yaml: evaluate.baselines"
    kind = BASELINES.get(name, where=where)
    if task not in kind.tasks:
        fitting = [other for other in BASELINES.names() if task in BASELINES.get(other).tasks]
        raise LnmtError(
            f"the {name} baseline is not for {task}",
            where=where,
            value=name,
            allowed=", ".join(fitting),
            fix=f"leave {name} out of evaluate.baselines, and gates against it out of gate",
        )
    return kind(task, labels, seed)


__all__ = ["BASELINES", "Baseline", "TextBaseline", "TokenBaseline", "open_baseline"]
