"""A predictor's answers to labelled rows, as metrics."""

from __future__ import annotations

from lnmt.api.dataset import Dataset
from lnmt.data.labels import parse_labels
from lnmt.errors import LnmtError
from lnmt.optimization.answers import Validation, collect, task_metrics
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from lnmt.types import ID


def evaluate(predictor: Predictor, dataset: Dataset) -> dict[str, float]:
    """The task's metrics of the answers to `dataset`.

    Raises LnmtError for no rows or another task, UnknownName for a label that the model does not have.
    """
    where = "Trainer.evaluate"
    if dataset.task != predictor.task:
        raise LnmtError(
            "the data set is of another task", where=where, value=dataset.task, allowed=predictor.task, fix="load it so"
        )
    if not len(dataset):
        raise LnmtError("nothing to evaluate on", where=where, value="0 rows", fix="give a data set with rows")
    ids: list[str] = dataset.table[ID].to_pylist()
    labels = list(predictor.labels)
    targets = parse_labels(dataset.targets, ids, dataset.task, labels, where=where)
    rows = Validation(dataset.task, labels, dataset.texts, ids, targets, where)
    metrics = task_metrics(rows)
    found = metrics.points(metrics.total(collect(predictor, rows, Progress(), "evaluate").scored))
    return {name: float(value) for name, value in found.items()}
