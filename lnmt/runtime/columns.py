"""The columns that batch inference adds to a table, by task.

text-classification         predicted_label · score (its probability) · score_<label>…
multi-label-classification  predicted_labels (a list) · score_<label>…
text-regression             predicted_value
token-classification        predicted_tags (a list, one for each word)
text-generation             loss (nats a token) · perplexity

Legend: B = rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lnmt.types import Task

if TYPE_CHECKING:
    import pyarrow as pa

SCORE = "score"
_Column = tuple[str, str, Callable[[Any], Any]]  # name, Arrow type, value of a prediction

_OWN: Mapping[Task, tuple[_Column, ...]] = {
    "text-classification": (
        ("predicted_label", "string", lambda one: one.label),
        (SCORE, "float", lambda one: one.scores[one.label]),
    ),
    "multi-label-classification": (("predicted_labels", "strings", lambda one: list(one.labels)),),
    "text-regression": (("predicted_value", "float", lambda one: one.value),),
    "token-classification": (("predicted_tags", "strings", lambda one: list(one.tags)),),
    "text-generation": (
        ("loss", "float", lambda one: one.loss),
        ("perplexity", "float", lambda one: one.perplexity),
    ),
}
_SCORED: tuple[Task, ...] = ("text-classification", "multi-label-classification")


def column_names(task: Task, labels: Sequence[str]) -> list[str]:
    """The names, in order."""
    return [name for name, _, _ in _columns(task, labels)]


def answer_columns(task: Task, labels: Sequence[str], predictions: Sequence[Any]) -> list[tuple[pa.Field, pa.Array]]:
    """The columns of predictions [B]; null where there is none."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "float": pa.float32(), "strings": pa.list_(pa.string())}
    return [
        (
            pa.field(name, kinds[kind]),
            pa.array([None if one is None else value(one) for one in predictions], kinds[kind]),
        )
        for name, kind, value in _columns(task, labels)
    ]


def _columns(task: Task, labels: Sequence[str]) -> list[_Column]:
    scored = labels if task in _SCORED else ()
    return [*_OWN[task], *((f"{SCORE}_{label}", "float", _score_of(label)) for label in scored)]


def _score_of(label: str) -> Callable[[Any], Any]:
    return lambda one: one.scores[label]
