"""Which metrics a task has, and which way each is better. Definitions: docs/reference/metrics.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lnmt.errors import UnknownName
from lnmt.types import Task

# Of a whole split; those of single labels stand beside them, see `metric_names`.
SUMMARY: Mapping[Task, tuple[str, ...]] = {
    "text-classification": ("accuracy", "macro_f1", "ece"),
    "multi-label-classification": ("micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "ece"),
    "text-regression": ("mae", "rmse", "r2", "pearson"),
    "token-classification": ("micro_f1", "micro_precision", "micro_recall", "macro_f1", "token_accuracy"),
    "text-generation": ("loss", "perplexity", "bits_per_byte", "token_accuracy"),
}
DEFAULT: Mapping[Task, str] = {
    "text-classification": "macro_f1",
    "multi-label-classification": "micro_f1",
    "text-regression": "rmse",
    "token-classification": "micro_f1",
    "text-generation": "loss",
}
BY_LABEL = ("precision", "recall", "f1")
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "bits_per_byte", "mae", "rmse", "ece", "hamming_loss"})
# Training sees neither calibrated scores nor the bytes of a text.
ONLY_AFTER_TRAINING = frozenset({"ece", "bits_per_byte"})


OUTSIDE = "O"  # the tag of a word that belongs to no entity
TAG_PREFIXES = ("B-", "I-", "E-", "S-")

_TITLES = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "ece": "ECE",
    "hamming_loss": "Hamming loss",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "pearson": "Pearson's r",
}


def title(name: str) -> str:
    """How people write the metric `name`."""
    return _TITLES.get(name, name.replace("_", " "))


def metric_names(task: Task, labels: Sequence[str] = ()) -> list[str]:
    """Every metric of stage `evaluate` that a gate may name.

    `precision`, `recall` and `f1` are there of each label too, as `f1.LABEL`; for token-classification of each
    entity type, as `f1.PER`.
    """
    return [*SUMMARY[task], *label_metric_names(scored_labels(task, labels))]


def label_metric_names(labels: Sequence[str]) -> list[str]:
    """`precision.…`, `recall.…`, `f1.…` of each label."""
    return [f"{kind}.{label}" for kind in BY_LABEL for label in labels]


def scored_labels(task: Task, labels: Sequence[str]) -> list[str]:
    """What precision, recall and F1 are told of one by one: the labels, or the entity types of a set of tags."""
    if task == "token-classification":
        return list(dict.fromkeys(entity_type(tag) for tag in labels if tag != OUTSIDE))
    return list(labels)


def validation_names(task: Task, labels: Sequence[str] = ()) -> list[str]:
    """What is measured on validation while a model trains: what `train.metric` may name. `loss` is the task's."""
    summary = [name for name in SUMMARY[task] if name not in ONLY_AFTER_TRAINING]
    return list(dict.fromkeys(["loss", *summary, *label_metric_names(scored_labels(task, labels))]))


def default_metric(task: Task) -> str:
    """The one figure to tell of a model of this task; both `metric_names` and `validation_names` hold it."""
    return DEFAULT[task]


def higher_is_better(name: str) -> bool:
    """Which way the metric `name`, one of `metric_names` or `validation_names`, is better."""
    return name not in LOWER_IS_BETTER


def check_metric(name: str, task: Task, labels: Sequence[str], *, where: object) -> None:
    """Raise UnknownName, before anything costly, where training cannot choose by the metric `name`."""
    if name not in validation_names(task, labels):
        raise UnknownName(f"validation metric of {task}", name, validation_names(task, labels), where=where)


def entity_type(tag: str) -> str:
    """`PER` of `B-PER`; a tag without a prefix is a type of its own."""
    return tag[2:] if tag.startswith(TAG_PREFIXES) else tag
