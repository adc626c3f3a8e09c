from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lnmt.errors import UnknownName
from lnmt.training.baselines import BASELINES
from lnmt.training.metrics.names import (
    check_metric,
    default_metric,
    higher_is_better,
    metric_names,
    title,
    validation_names,
)
from lnmt.types import Task


@pytest.mark.parametrize("task", get_args(Task))
def test_the_default_is_known_to_training_and_to_gates(task: Task) -> None:
    assert default_metric(task) in validation_names(task)
    assert default_metric(task) in metric_names(task)
    assert validation_names(task)[0] == "loss"


def test_names_of_labels_and_of_entity_types() -> None:
    assert metric_names("text-classification", ["no", "yes"]) == [
        "accuracy",
        "macro_f1",
        "ece",
        *("precision.no", "precision.yes", "recall.no", "recall.yes", "f1.no", "f1.yes"),
    ]
    tags = ["O", "B-PER", "I-PER", "E-LOC", "NOUN"]
    assert [name for name in metric_names("token-classification", tags) if name.startswith("f1.")] == [
        "f1.PER",
        "f1.LOC",
        "f1.NOUN",
    ]
    assert metric_names("text-regression") == ["mae", "rmse", "r2", "pearson"]


def test_training_does_not_know_what_needs_scores_or_bytes() -> None:
    assert validation_names("text-classification") == ["loss", "accuracy", "macro_f1"]
    assert validation_names("text-generation") == ["loss", "perplexity", "token_accuracy"]


def test_errors_and_losses_are_better_lower() -> None:
    names = {name for task in get_args(Task) for name in (*metric_names(task, ["loss"]), *validation_names(task))}
    lower = {name for name in names if not higher_is_better(name)}
    assert lower == {"bits_per_byte", "ece", "hamming_loss", "loss", "mae", "perplexity", "rmse"}


def test_an_unknown_validation_metric_is_named() -> None:
    check_metric("f1.yes", "text-classification", ["no", "yes"], where="here")
    with pytest.raises(UnknownName, match="unknown validation metric of text-regression 'rsme'") as caught:
        check_metric("rsme", "text-regression", [], where="params.yaml: train.metric")
    assert caught.value.fix == "did you mean 'rmse'?"
    assert caught.value.allowed == "loss, mae, pearson, r2, rmse"
    with pytest.raises(UnknownName, match="'ece'"):
        check_metric("ece", "text-classification", ["no", "yes"], where="here")


def test_titles() -> None:
    assert [title(name) for name in ("macro_f1", "token_accuracy", "r2")] == ["macro-F1", "token accuracy", "R²"]


def test_the_reference_names_every_metric_with_its_direction_and_every_baseline() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text(encoding="utf-8")
    for task in get_args(Task):
        section = page.partition(f"| `{task}` |")[2].partition("| `te" if task != "token-classification" else "\n\n")[0]
        for name in metric_names(task):
            line = next((line for line in section.splitlines() if f"`{name}`" in line), "")
            assert line.endswith(f"| {'higher' if higher_is_better(name) else 'lower'} |"), (task, name)
    for name in BASELINES.names():
        tasks = ", ".join(task for task in get_args(Task) if task in BASELINES.get(name).tasks)
        assert f"| `{name}` | {tasks} |" in page
