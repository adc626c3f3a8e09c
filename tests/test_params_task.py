"""What the task asks of the other sections of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lnmt.errors import LnmtError
from lnmt.params import parse_params
from lnmt.types import Task
from tests.task_kit import LABELS, TASKS

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def params_of(task: Task, labels: list[str] | None, label: str | None, bins: Any = None) -> Any:
    raw = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    source = raw["ingest"]["sources"][0]
    source["bins"] = bins
    source["columns"]["label"] = label
    raw["task"] = task
    raw["validate"]["labels"] = labels
    return raw


def problems(raw: Any) -> str:
    with pytest.raises(LnmtError) as caught:
        parse_params(raw, where=SHIPPED)
    return str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_what_fits_each_task(task: Task) -> None:
    label = None if task == "text-generation" else "label"
    assert parse_params(params_of(task, LABELS[task], label), where=SHIPPED).task == task


@pytest.mark.parametrize("task", ["text-regression", "text-generation"])
def test_a_task_without_a_label_set(task: Task) -> None:
    text = problems(params_of(task, ["a", "b"], "label"))
    assert f"validate.labels: {task} needs null, since the task has no label set (found ['a', 'b'])" in text


@pytest.mark.parametrize("task", ["text-classification", "multi-label-classification", "token-classification"])
def test_a_task_with_a_label_set(task: Task) -> None:
    assert f"validate.labels: {task} needs a list of names (found None)" in problems(params_of(task, None, "label"))


def test_a_column_of_labels_where_there_are_none_and_none_where_there_is() -> None:
    text = problems(params_of("text-generation", None, "label"))
    assert "ingest.sources.0.columns.label: text-generation needs null, since no row has a label" in text
    text = problems(params_of("text-regression", None, None))
    assert "ingest.sources.0.columns.label: text-regression needs the name of a column (found None)" in text


def test_bins_are_for_one_label_of_several() -> None:
    bins = [{"label": "low", "at_most": 0}, {"label": "high"}]
    assert parse_params(params_of("text-classification", ["low", "high"], "label", bins), where=SHIPPED)
    text = problems(params_of("text-regression", None, "label", bins))
    assert "ingest.sources.0.bins: bins make names of numbers, for text-classification alone" in text


def test_tags_that_cannot_stand_in_a_row() -> None:
    text = problems(params_of("token-classification", ["O", "B PER"], "label"))
    assert "a tag holds no white space, which stands between tags (found 'B PER')" in text
    text = problems(params_of("token-classification", ["O", "B-PER", "I-LOC"], "label"))
    assert "'I-LOC' follows 'B-LOC', which is not in the set" in text


@pytest.mark.parametrize("labels", [["a", "b", "a"], ["a", ""]])
def test_labels_are_named_once_each(labels: list[str]) -> None:
    assert "labels are named once each" in problems(params_of("text-classification", labels, "label"))


def test_every_misfit_is_told_at_once() -> None:
    bins = [{"label": "low", "at_most": 0}, {"label": "high"}]
    text = problems(params_of("text-generation", ["a", "b"], "label", bins))
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:4]] == [
        "validate.labels",
        "ingest.sources.0.columns.label",
        "ingest.sources.0.bins",
    ]


def test_an_unknown_task() -> None:
    raw = params_of("text-classification", ["a", "b"], "label")
    raw["task"] = "classification"
    assert "task: Input should be 'text-classification', 'multi-label-classification'" in problems(raw)
